package events

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/key"
)

// Whatever two records of a key say: what either knows to be revoked is revoked in
// what comes out, nothing else differs from the one that is there, and once more
// changes nothing.
func TestRevocationsAreNeverUndone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(5, 0).UTC()
		draw := func(what string) *key.Record {
			rec := record("id")
			rec.Secrets = nil
			for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID).Draw(t, what) {
				s := key.Secret{Digest: key.DigestOf(name)}
				if rapid.Bool().Draw(t, what+"'s secret is revoked") {
					s.RevokedAt = &at
				}
				rec.Secrets = append(rec.Secrets, s)
			}
			if rapid.Bool().Draw(t, what+" is revoked") {
				rec.Status, rec.RevokedAt = key.Revoked, &at
			}
			return rec
		}
		there, saved := draw("the one that is there"), draw("the saved one")
		was := there.Clone()
		merged, changed := withRevocations(there, saved)
		revoked := there.Status == key.Revoked || saved.Status == key.Revoked
		if (merged.Status == key.Revoked) != revoked || (merged.RevokedAt != nil) != revoked {
			t.Fatalf("the key is %s, revoked at %v", merged.Status, merged.RevokedAt)
		}
		if len(merged.Secrets) != len(was.Secrets) {
			t.Fatalf("it has other secrets: %+v", merged.Secrets)
		}
		for i := range merged.Secrets {
			m, w := &merged.Secrets[i], &was.Secrets[i]
			in := saved.Secret(w.Digest)
			revoked := w.RevokedAt != nil || in >= 0 && saved.Secrets[in].RevokedAt != nil
			if m.Digest != w.Digest || (m.RevokedAt != nil) != revoked {
				t.Fatalf("secret %d is revoked at %v", i, m.RevokedAt)
			}
			if (w.RevokedAt == nil) != (there.Secrets[i].RevokedAt == nil) {
				t.Fatal("the record that is there was changed itself")
			}
		}
		if _, again := withRevocations(merged, saved); again {
			t.Fatal("once more it changes something")
		}
		if !changed && (merged.Status != was.Status) {
			t.Fatal("it is changed and says that it is not")
		}
	})
}
