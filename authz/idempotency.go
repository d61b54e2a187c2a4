package authz

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"tollgate/authz/dialect"
)

// retries are the headers by which callers mark a request as one that was sent before,
// as this tenant's own. To an upstream that is shown the operator's credential all
// callers are one, and it would give one tenant's answer to another that chose the same
// word. The word that goes on stays the same for the same tenant and word. One that is
// empty marks nothing. It allocates nothing where there is none.
func (c *check) retries(set []dialect.Header) []dialect.Header {
	for i := range c.req.Headers {
		h := &c.req.Headers[i]
		if slices.Contains(dialect.IdempotencyHeaders(), h.Name) && strings.TrimSpace(h.Value) != "" {
			set = append(set, dialect.Header{Name: h.Name, Value: tenantsWord(c.tenant(), h.Value)})
		}
	}
	return set
}

// tenantsWord is as good as the word of nobody else: 128 bits in hex, however long a
// word is.
func tenantsWord(t Tenant, word string) string {
	sum := sha256.Sum256([]byte(t.Workspace + "\x00" + t.Generation + "\x00" + word))
	return hex.EncodeToString(sum[:16])
}
