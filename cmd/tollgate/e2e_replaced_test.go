//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// testReplaced puts another store under running replicas: an empty one, then one
// from before. They must go by what the store says and by nothing that they
// remember, and make new revocations certain as ever.
func testReplaced(t *testing.T, b *bench) {
	d := newDeployment(t, b, 3, faultBound, false)
	everywhere := func(t *testing.T, k newKey, status int) {
		t.Helper()
		for _, r := range d.replicas {
			within(t, time.Minute, fmt.Sprintf("status %d", status), func() error {
				if res := r.chat(k.Key, chatBody(chatModel, "")); res.status != status {
					return fmt.Errorf("%v", res)
				}
				return nil
			})
		}
	}
	// A store that is there again may have no leader yet.
	takesChanges := func(t *testing.T) {
		t.Helper()
		for _, r := range d.replicas {
			within(t, time.Minute, "taking changes", func() error {
				if res := r.try(http.MethodPost, "http://"+r.api+"/api/v1/api-keys", operatorOfTests, `{"name":"probe"}`); res.status != http.StatusCreated {
					return fmt.Errorf("%v", res)
				}
				return nil
			})
		}
	}
	replace := func(with func()) {
		for i := range d.nats.Len() {
			d.nats.Stop(i)
		}
		with()
		for i := range d.nats.Len() {
			d.nats.Restart(i)
		}
		d.nats.WaitReady()
	}
	first := d.replicas[0].key("--name", "first")
	everywhere(t, first, http.StatusOK)

	t.Run("by one from before", func(t *testing.T) {
		var saved string
		replace(func() { saved = d.nats.Save() })
		takesChanges(t)
		second := d.replicas[0].key("--name", "second")
		everywhere(t, second, http.StatusOK)
		// The old store gets as far as the replicas were, and further.
		replace(func() { d.nats.Load(saved) })
		takesChanges(t)
		everywhere(t, second, http.StatusUnauthorized)
		everywhere(t, first, http.StatusOK)
		d.replicas[1].cli("key", "revoke", first.ID)
		for _, r := range d.replicas {
			if res := r.chat(first.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
				t.Errorf("after its revocation: %v", res)
			}
		}
	})

	t.Run("by an empty one, and a backup", func(t *testing.T) {
		third := d.replicas[0].key("--name", "third")
		revoked := d.replicas[0].key("--name", "revoked")
		everywhere(t, third, http.StatusOK)
		d.replicas[0].cli("key", "revoke", revoked.ID)
		file := filepath.Join(t.TempDir(), "backup")
		d.replicas[1].cli("backup", "-o", file)
		replace(func() {
			for i := range d.nats.Len() {
				d.nats.Wipe(i)
			}
		})
		// Nobody knows whether a key is valid: that is no reason to call one invalid.
		everywhere(t, third, http.StatusServiceUnavailable)
		d.replicas[1].cli("restore", file)
		everywhere(t, third, http.StatusOK)
		everywhere(t, revoked, http.StatusUnauthorized)
		d.replicas[2].cli("key", "revoke", third.ID)
		for _, r := range d.replicas {
			if res := r.chat(third.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
				t.Errorf("after its revocation: %v", res)
			}
		}
	})

	// What was used before is in no stream: only the other replicas know it.
	t.Run("and a new replica knows what was used before", func(t *testing.T) {
		fresh := d.prepare()
		fresh.start("serve")
		fresh.waitServing()
		within(t, time.Minute, "the totals of the others", func() error {
			want, got := d.replicas[0].cli("usage", "-o", "json"), fresh.cli("usage", "-o", "json")
			if got != want || !strings.Contains(got, chatModel) {
				return fmt.Errorf("%s instead of %s", got, want)
			}
			return nil
		})
	})
}
