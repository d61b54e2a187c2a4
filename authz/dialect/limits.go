package dialect

import (
	"strconv"
	"time"
)

// Standing is where a caller stands with a limit per minute. A Limit of 0 is none.
type Standing struct {
	Limit, Remaining int64
	Reset            time.Duration // until all of it is there again
}

// AppendLimits tells a caller, by the headers that the dialect's SDKs read, where
// it stands. It appends to h.
func (d *Dialect) AppendLimits(h []Header, now time.Time, requests, tokens Standing) []Header {
	if d != nil && d.Style == Anthropic {
		at := now.UTC()
		h = appendStanding(h, &anthropicRequests, requests, at.Add(requests.Reset).Format(time.RFC3339))
		// A limit of tokens is of both kinds together, so that of neither kind more
		// remains.
		for i := range anthropicTokens {
			h = appendStanding(h, &anthropicTokens[i], tokens, at.Add(tokens.Reset).Format(time.RFC3339))
		}
		return h
	}
	h = appendStanding(h, &openAIRequests, requests, requests.resetIn())
	return appendStanding(h, &openAITokens, tokens, tokens.resetIn())
}

// resetIn is Reset as a caller reads it; "" where there is no limit, at no cost.
func (s *Standing) resetIn() string {
	if s.Limit == 0 {
		return ""
	}
	return s.Reset.Round(time.Millisecond).String()
}

// standingHeaders are the names for one kind of limit.
type standingHeaders struct{ limit, remaining, reset string }

var (
	// OpenAI's reset is a time from now, such as 12ms or 6m0s.
	openAIRequests = standingHeaders{"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}
	openAITokens   = standingHeaders{"x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"}
	// Anthropic's is a point in time.
	anthropicRequests = anthropicStanding("requests")
	anthropicTokens   = [...]standingHeaders{anthropicStanding("tokens"), anthropicStanding("input-tokens"), anthropicStanding("output-tokens")}
)

func anthropicStanding(kind string) standingHeaders {
	prefix := "anthropic-ratelimit-" + kind
	return standingHeaders{prefix + "-limit", prefix + "-remaining", prefix + "-reset"}
}

func appendStanding(h []Header, names *standingHeaders, s Standing, reset string) []Header {
	if s.Limit == 0 {
		return h
	}
	return append(h,
		Header{names.limit, strconv.FormatInt(s.Limit, 10)},
		Header{names.remaining, strconv.FormatInt(s.Remaining, 10)},
		Header{names.reset, reset})
}

// AccountHeaders are the names of those in which services tell of the account that was
// used, its name and what is left of its limits. It is the operator's, and all callers
// share it: none of this is a caller's.
func AccountHeaders() []string {
	standings := append([]standingHeaders{
		openAIRequests, openAITokens, anthropicRequests,
		{"x-ratelimit-limit-project-tokens", "x-ratelimit-remaining-project-tokens", "x-ratelimit-reset-project-tokens"},
	}, anthropicTokens[:]...)
	names := append(make([]string, 0, 3+3*len(standings)), "openai-organization", "openai-project", "anthropic-organization-id")
	for i := range standings {
		names = append(names, standings[i].limit, standings[i].remaining, standings[i].reset)
	}
	return names
}

// AppendID tells a caller its request's id, which is its event's. It appends to h.
func (d *Dialect) AppendID(h []Header, id string) []Header {
	h = append(h, Header{"x-request-id", id})
	if d != nil && d.Style == Anthropic {
		h = append(h, Header{"request-id", id})
	}
	return h
}
