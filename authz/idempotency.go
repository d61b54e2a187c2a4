package authz

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"tollgate/authz/dialect"
)

// markRetries sets the headers by which a caller marks a request as one that it sent
// before, to a word of this tenant alone: to an upstream that is shown the operator's
// credential all callers are one, and it would give one tenant's answer to another that
// chose the same word. One that is empty marks nothing. Of several lines the last counts,
// as for all headers that are set. It allocates nothing where there is none.
func (c *check) markRetries(set []dialect.Header) []dialect.Header {
	for i := range c.req.Headers {
		switch h := &c.req.Headers[i]; h.Name {
		case "idempotency-key", "x-idempotency-key":
			if strings.TrimSpace(h.Value) != "" {
				set = append(set, dialect.Header{Name: h.Name, Value: wordOf(c.tenant(), h.Value)})
			}
		}
	}
	return set
}

// wordOf is the same for the same word of a tenant, and else another: 128 bits in hex,
// however long the word is.
func wordOf(t Tenant, word string) string {
	sum := sha256.Sum256([]byte(t.Workspace + "\x00" + t.Generation + "\x00" + word))
	return hex.EncodeToString(sum[:16])
}
