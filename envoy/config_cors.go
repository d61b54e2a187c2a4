package envoy

import (
	"errors"
	"strconv"
	"strings"
	"time"

	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// corsFilter comes before every filter that asks for a key: a preflight has none.
const corsFilter = "envoy.filters.http.cors"

// CORS says which web pages may call a route from a browser.
type CORS struct {
	// Origins are as browsers write them, such as https://app.example.com; "*" alone
	// is all. At least one.
	Origins []string
	// Methods are those that a preflight allows.
	Methods []string
	// MaxAge is for how long a browser may remember the answer. 0: as it likes.
	MaxAge time.Duration
}

// What a page may send and read. Browsers take the wildcard for every header but
// authorization, and for none where credentials of their own go along, which is never
// allowed here.
const (
	corsRequestHeaders = "authorization, content-type, x-api-key, api-key, *"
	corsAnswerHeaders  = "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, " +
		"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, " +
		"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, " +
		"anthropic-ratelimit-requests-limit, anthropic-ratelimit-requests-remaining, anthropic-ratelimit-requests-reset, " +
		"anthropic-ratelimit-tokens-limit, anthropic-ratelimit-tokens-remaining, anthropic-ratelimit-tokens-reset"
)

func (c *CORS) check() error {
	switch {
	case c == nil:
		return nil
	case len(c.Origins) == 0 || len(c.Methods) == 0:
		return errors.New("CORS: it needs origins and methods")
	case c.MaxAge < 0:
		return errors.New("CORS: MaxAge is negative")
	}
	return nil
}

// allow adds the policy to a route's filters; without one the filter does nothing.
func (c *CORS) allow(filters map[string]*anypb.Any) {
	if c == nil {
		return
	}
	policy := &corsv3.CorsPolicy{
		AllowMethods: strings.Join(c.Methods, ", "), AllowHeaders: corsRequestHeaders, ExposeHeaders: corsAnswerHeaders,
	}
	for _, origin := range c.Origins {
		policy.AllowOriginStringMatch = append(policy.AllowOriginStringMatch, &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: origin}})
	}
	if c.MaxAge > 0 {
		policy.MaxAge = strconv.FormatInt(int64(c.MaxAge/time.Second), 10)
	}
	filters[corsFilter] = pack(policy)
}
