package catalog

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxOrigins is how many origins a route may name.
const maxOrigins = 64

// DefaultCORSMaxAge is for how long a browser remembers what it may do.
const DefaultCORSMaxAge = 10 * time.Minute

var corsMaxAge = span{time.Second, 24 * time.Hour, "from 1s to 24h, such as 10m"}

// CORSSpec says which web pages may call a route from a browser. Cookies and other
// credentials that browsers send by themselves are never allowed: a page has to
// have a key.
type CORSSpec struct {
	// Origins are such as https://app.example.com, or * alone for all.
	Origins []string `json:"origins"`
	MaxAge  string   `json:"maxAge,omitzero"` // "": DefaultCORSMaxAge
}

// CORS is a CORSSpec in use.
type CORS struct {
	Origins []string // as browsers write them; "*" alone: all
	MaxAge  time.Duration
}

func (s *source) cors(path string, c *CORSSpec) {
	if c == nil {
		return
	}
	if len(c.Origins) == 0 && !s.broken[path] {
		s.invalidf(path+".origins", "is missing: name the pages that may call, such as https://app.example.com")
	}
	s.atMost(path+".origins", len(c.Origins), maxOrigins)
	for i, origin := range c.Origins {
		item := fmt.Sprintf("%s.origins[%d]", path, i)
		if origin == "*" && len(c.Origins) > 1 {
			s.invalidf(item, `"*" is all origins: let it stand alone, or take it out`)
			continue
		}
		s.required(item, origin, checkOrigin)
		if slices.Contains(c.Origins[:i], origin) {
			s.invalidf(item, "%s stands twice", quote(origin))
		}
	}
	s.optional(path+".maxAge", c.MaxAge, corsMaxAge.check)
}

// checkOrigin takes an origin in the one way in which browsers write it.
func checkOrigin(origin string) error {
	if origin == "*" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || !validHost(u.Hostname()) || len(origin) > maxText {
		return errors.New("want an origin such as https://app.example.com, with its port if it has one of its own")
	}
	if u.Scheme+"://"+u.Host != origin || strings.ToLower(origin) != origin || strings.HasSuffix(u.Host, ":") ||
		u.Scheme == "https" && u.Port() == "443" || u.Scheme == "http" && u.Port() == "80" {
		return errors.New("browsers write an origin in lower case, without a path, a slash at its end or the usual port: such as https://app.example.com")
	}
	return nil
}

func compileCORS(spec *CORSSpec) (*CORS, error) {
	if spec == nil {
		return nil, nil
	}
	c := &CORS{Origins: slices.Clone(spec.Origins), MaxAge: DefaultCORSMaxAge}
	var err error
	if spec.MaxAge != "" {
		c.MaxAge, err = corsMaxAge.parse(spec.MaxAge)
	}
	return c, err
}
