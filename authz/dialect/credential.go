package dialect

import (
	"slices"
	"strings"

	"tollgate/authz/reason"
)

// MaxSecretSize is how many bytes a presented key may have.
const MaxSecretSize = 512

// keyHeaders are those in which a key is presented, Authorization first, and
// keySchemes what stands before it there.
var keyHeaders, keySchemes = presented(dialects)

// presented collects the ways in which the clients of these services present a key.
func presented(dialects []*Dialect) (headers, schemes []string) {
	headers, schemes = []string{"authorization"}, []string{"Bearer"}
	for _, d := range dialects {
		if d.KeyHeader != "" && !slices.Contains(headers, d.KeyHeader) {
			headers = append(headers, d.KeyHeader)
		}
		if d.KeyScheme != "" && !slices.Contains(schemes, d.KeyScheme) {
			schemes = append(schemes, d.KeyScheme)
		}
	}
	return headers, schemes
}

// KeyHeaders are the (lower-case) names of the headers in which a key is presented.
func KeyHeaders() []string { return slices.Clone(keyHeaders) }

// CredentialHeaders are KeyHeaders, and those in which services that an upstream may be
// take a credential: none of them goes on, or into an event.
func CredentialHeaders() []string {
	return append(KeyHeaders(), "proxy-authorization", "x-goog-api-key", "ocp-apim-subscription-key")
}

// wanted are the headers that reading a request takes, that an admission keeps, or that
// go on as others.
var wanted = slices.Concat(keyHeaders, []string{
	"content-type", "content-encoding", "content-length", "transfer-encoding",
	"upgrade", "sec-websocket-protocol",
	"x-client-request-id", "x-request-id", "traceparent", "anthropic-version",
	"idempotency-key", "x-idempotency-key",
})

// WantedHeaders are the (lower-case) names of the headers that Request.Headers
// must have where the request has them.
func WantedHeaders() []string { return slices.Clone(wanted) }

// Wanted reports whether a header is one of WantedHeaders.
func Wanted(name string) bool { return slices.Contains(wanted, name) }

// Credential takes the presented key out of a request: from Authorization with
// one of keySchemes, or from another of keyHeaders; white space around it
// doesn't count. The same key may stand there several times. detail says what
// is wrong where the reason alone doesn't, and never repeats what was
// presented. The secret aliases the request. Credential does not allocate.
func Credential(req *Request) (secret string, r reason.Reason, detail string) {
	for i := range req.Headers {
		h := &req.Headers[i]
		var one string
		switch h.Name {
		case "authorization":
			one, r, detail = authorization(trim(h.Value))
		default:
			if !slices.Contains(keyHeaders, h.Name) {
				continue
			}
			one = trim(h.Value)
		}
		if r == reason.None && one != "" {
			r, detail = wellFormed(one)
		}
		switch {
		case r != reason.None:
			return "", r, detail
		case one == "" || one == secret:
			// Empty headers are what clients send whose key isn't set.
		case secret == "":
			secret = one
		default:
			return "", reason.KeyAmbiguous, ""
		}
	}
	if secret == "" {
		return "", reason.KeyMissing, ""
	}
	return secret, reason.None, ""
}

// authorization takes the key out of a trimmed Authorization header; "" if it
// has none.
func authorization(value string) (secret string, r reason.Reason, detail string) {
	scheme, rest, found := cutBlank(value)
	switch {
	case isScheme(scheme):
		return trim(rest), reason.None, ""
	case value == "":
		return "", reason.None, ""
	case found:
		return "", reason.KeyInvalid, "The Authorization header has a scheme that is not known here. Send Authorization: Bearer KEY."
	}
	return "", reason.KeyInvalid, "The Authorization header has no scheme. Send Authorization: Bearer KEY."
}

func isScheme(s string) bool {
	return slices.ContainsFunc(keySchemes, func(scheme string) bool { return strings.EqualFold(s, scheme) })
}

// wellFormed refuses what can't be a key: it looks at bytes only, so it tells
// nobody whether a key exists.
func wellFormed(secret string) (r reason.Reason, detail string) {
	if len(secret) > MaxSecretSize {
		return reason.KeyInvalid, "The presented API key is too long to be one. Check what was copied."
	}
	if joined(secret) {
		return reason.KeyAmbiguous, "Several Authorization headers were sent. Send one."
	}
	for i := range len(secret) {
		switch c := secret[i]; {
		case c == ' ' || c == '\t':
			return reason.KeyInvalid, "The presented API key has white space inside. Send the key alone behind its scheme."
		case c < ' ' || c == 0x7f:
			return reason.KeyInvalid, "The presented API key has control characters. Check what was copied."
		case c > 0x7f:
			return reason.KeyInvalid, "The presented API key has characters outside ASCII. Check what was copied."
		}
	}
	return reason.None, ""
}

// joined reports whether a proxy put another Authorization header behind the
// first one, with a comma between them.
func joined(s string) bool {
	for {
		_, rest, found := strings.Cut(s, ",")
		if !found {
			return false
		}
		if scheme, _, _ := cutBlank(trim(rest)); isScheme(scheme) {
			return true
		}
		s = rest
	}
}

func trim(s string) string { return strings.Trim(s, blanks) }

const blanks = " \t"

// cutBlank splits s at its first blank or tab.
func cutBlank(s string) (before, after string, found bool) {
	i := strings.IndexAny(s, blanks)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// keyParameters are query parameters that some service takes a key from, in
// lower case without - and _.
var keyParameters = [...]string{"apikey", "key", "token", "accesstoken", "xapikey", "authorization"}

const keyInQuery = "An API key in the query is refused: URLs are logged. Send it in a header: Authorization: Bearer KEY."

// CheckQuery refuses a query (without its question mark) that has a parameter
// for a key. A key in a URL ends up in logs, and an upstream might prefer it to
// the one that was checked. It does not allocate.
func CheckQuery(query string) (r reason.Reason, detail string) {
	for query != "" {
		var pair string
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			pair, query = query, ""
		}
		name, _, _ := strings.Cut(pair, "=")
		if isKeyParameter(name) {
			return reason.KeyAmbiguous, keyInQuery
		}
	}
	return reason.None, ""
}

// CheckSecret refuses a :path whose query has the presented key somewhere, whatever
// the parameter is called and whatever stands beside it: the upstream would see it.
// A part of a longer word is no key. It does not allocate but for a query with escapes.
func CheckSecret(target, secret string) (r reason.Reason, detail string) {
	_, query := SplitPath(target)
	if HasWord(query, secret) || strings.Contains(query, "%") && HasWord(unpercent(query), secret) {
		return reason.KeyAmbiguous, keyInQuery
	}
	return reason.None, ""
}

// HasWord reports whether word, which is not "", stands in s without a letter or digit
// before or behind it.
func HasWord(s, word string) bool {
	for before := byte(' '); ; {
		at := strings.Index(s, word)
		if at < 0 {
			return false
		}
		if at > 0 {
			before = s[at-1]
		}
		after := s[at+len(word):]
		if !isAlphanumeric(before) && (after == "" || !isAlphanumeric(after[0])) {
			return true
		}
		s, before = after, word[len(word)-1]
	}
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// unpercent decodes what is percent-encoded, and leaves what can't be as it is.
func unpercent(s string) string {
	plain := make([]byte, 0, len(s))
	for s != "" {
		var c byte
		c, s = percentByte(s)
		plain = append(plain, c)
	}
	return string(plain)
}

// percentByte is the first byte of s, which is not "", decoded where it is
// percent-encoded, and what follows it.
func percentByte(s string) (c byte, rest string) {
	if s[0] == '%' && len(s) > 2 {
		if high, low := unhex(s[1]), unhex(s[2]); high >= 0 && low >= 0 {
			return byte(high<<4 | low), s[3:]
		}
	}
	return s[0], s[1:]
}

func isKeyParameter(name string) bool {
	var buf [len("authorization") + 1]byte
	n := 0
	for name != "" {
		var c byte
		c, name = percentByte(name)
		switch {
		case c == '-' || c == '_' || c == '+' || c == ' ':
			continue
		case n == len(buf):
			return false // longer than any of them
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		}
		buf[n] = c
		n++
	}
	for _, k := range keyParameters {
		if string(buf[:n]) == k {
			return true
		}
	}
	return false
}

// unhex is the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
