package events

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"tollgate/authz/key"
)

// TestClaimIsOnes: of many claims of one digest at the same time, all get the same.
func TestClaimIsOnes(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	d := key.DigestOf("imported")
	var wg sync.WaitGroup
	claims := make([]Claim, 16)
	for i := range claims {
		wg.Go(func() {
			var err error
			if claims[i], err = k.ClaimDigest(t.Context(), d, "demo", fmt.Sprintf("key-%d", i), time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, c := range claims {
		if c != claims[0] || c.Key == "" || c.Revision == 0 {
			t.Errorf("claims %+v and %+v", c, claims[0])
		}
	}
	if c, err := k.ClaimDigest(t.Context(), key.DigestOf("another"), "demo", "other", time.Now()); err != nil || c.Key != "other" {
		t.Errorf("another digest: %+v, %v", c, err)
	}
	if _, err := k.ClaimDigest(t.Context(), d, "no such!", "x", time.Now()); err == nil {
		t.Error("a workspace that can't be is taken")
	}
}

// TestClaimOfAnotherWorkspace: what is in use is never taken over; what never came
// to be, after a while.
func TestClaimOfAnotherWorkspace(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	ctx, now := t.Context(), time.Now()
	rec := record("a") // whose secret is "a"
	d := key.DigestOf("a")
	if _, err := k.ClaimDigest(ctx, d, "demo", "a", now); err != nil {
		t.Fatal(err)
	}
	if _, err := k.ClaimDigest(ctx, d, "other", "b", now); !errors.Is(err, key.ErrConflict) {
		t.Errorf("a claim whose key may still come: %v", err)
	}
	if _, err := k.Put(ctx, rec, 0); err != nil {
		t.Fatal(err)
	}
	if c, err := k.ClaimDigest(ctx, d, "other", "b", now.Add(time.Hour)); err != nil || c.Workspace != "demo" || c.Key != "a" {
		t.Errorf("a key that is there: %+v, %v", c, err)
	}

	d = key.DigestOf("never")
	if _, err := k.ClaimDigest(ctx, d, "demo", "never", now); err != nil {
		t.Fatal(err)
	}
	if c, err := k.ClaimDigest(ctx, d, "other", "b", now.Add(3*time.Minute)); err != nil || c.Workspace != "other" || c.Key != "b" {
		t.Errorf("a claim whose key never came: %+v, %v", c, err)
	}
	if c, err := k.ClaimDigest(ctx, d, "other", "c", now); err != nil || c.Key != "b" {
		t.Errorf("the taken claim: %+v, %v", c, err)
	}
	if _, err := k.ClaimDigest(ctx, d, "demo", "never", now.Add(time.Minute)); !errors.Is(err, key.ErrConflict) {
		t.Errorf("the one that lost it: %v", err)
	}
}

// TestClaimsAreNoKeys: they are in the bucket of keys, and not among a workspace's.
func TestClaimsAreNoKeys(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	if _, err := k.ClaimDigest(t.Context(), key.DigestOf("x"), "demo", "x", time.Now()); err != nil {
		t.Fatal(err)
	}
	if all := listed(t, k, "demo"); len(all) != 0 {
		t.Errorf("listed %v", all)
	}
}

// TestClaimFormIsFrozen: the form of today is read tomorrow, another version is not
// guessed at.
func TestClaimFormIsFrozen(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	k := openKeys(t, nc)
	d := key.DigestOf("x")
	if _, err := k.bucket.put(t.Context(), "x."+d.String(), []byte(`{"v":1,"workspace":"demo","key":"frozen"}`), 0); err != nil {
		t.Fatal(err)
	}
	if c, err := k.ClaimDigest(t.Context(), d, "demo", "x", time.Now()); err != nil || c.Key != "frozen" {
		t.Errorf("%+v, %v", c, err)
	}
	d = key.DigestOf("y")
	if _, err := k.bucket.put(t.Context(), "x."+d.String(), []byte(`{"v":2,"workspace":"demo","key":"newer"}`), 0); err != nil {
		t.Fatal(err)
	}
	if c, err := k.ClaimDigest(t.Context(), d, "demo", "x", time.Now()); !errors.Is(err, key.ErrUnavailable) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestIdempotency(t *testing.T) {
	_, nc := embedded(t, natsdConfig)
	made, err := OpenIdempotency(t.Context(), nc, 1)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	ids := make([]string, 16)
	for i := range ids {
		wg.Go(func() {
			id, fingerprint, err := made.Claim(t.Context(), "abc", fmt.Sprintf("id-%d", i), fmt.Sprintf("fp-%d", i))
			if err != nil || id[3:] != fingerprint[3:] {
				t.Errorf("%s %s %v", id, fingerprint, err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Errorf("ids %v", ids)
		}
	}
	if id, _, err := made.Claim(t.Context(), "def", "new", "x"); err != nil || id != "new" {
		t.Errorf("another name: %s, %v", id, err)
	}
	for _, name := range []string{"", "a.b", "a>", "A"} {
		if _, _, err := made.Claim(t.Context(), name, "x", "x"); err == nil {
			t.Errorf("the name %q is taken", name)
		}
	}
	// It outlives who made it, in its frozen form; another version is not guessed at.
	for name, form := range map[string]string{"frozen": `{"v":1,"id":"old","fingerprint":"f"}`, "newer": `{"v":2,"id":"old","fingerprint":"f"}`} {
		if _, err := made.bucket.put(t.Context(), name, []byte(form), 0); err != nil {
			t.Fatal(err)
		}
	}
	again, err := OpenIdempotency(t.Context(), nc, 1)
	if err != nil {
		t.Fatal(err)
	}
	if id, fingerprint, err := again.Claim(t.Context(), "frozen", "x", "y"); err != nil || id != "old" || fingerprint != "f" {
		t.Errorf("%s %s %v", id, fingerprint, err)
	}
	if _, _, err := again.Claim(t.Context(), "newer", "x", "y"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("of a newer version: %v", err)
	}
	stream, err := again.bucket.js.Stream(t.Context(), again.bucket.stream())
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.MaxAge != 24*time.Hour || cfg.MaxBytes != onceBytes {
		t.Errorf("kept for %v, %d bytes", cfg.MaxAge, cfg.MaxBytes)
	}
}
