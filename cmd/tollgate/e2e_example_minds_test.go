//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// walkExampleMinds: all members of the workspace count together, nobody takes the
// last place twice, and what is another workspace's does not exist.
func walkExampleMinds(t *testing.T, w *exampleWalk) {
	const user = "550e8400-e29b-41d4-a716-446655440000"
	w.say("workspace", "create", "acme", "--plan", "lite")
	w.say("workspace", "update", "acme", "--plan", "lite")
	k, shared := w.create("--workspace", "acme", "--actions", "infer,manage"), w.create("--workspace", "acme", "--actions", "infer,manage")
	other := w.create("--workspace", "demo", "--user", user)
	post := func(k newKey, path, body string, args ...string) (int, string) {
		return w.curl("@/api/v1/"+path, append(append(bearer(k), "-H", "Content-Type: application/json", "-d", body), args...)...)
	}

	// Two and two at once for three places: three are made, by whichever key.
	race := func(n int) (ids []string) {
		t.Helper()
		results := make([]answer, n)
		var all sync.WaitGroup
		for i := range results {
			all.Go(func() {
				results[i] = w.try(http.MethodPost, "http://"+w.gateway+"/api/v1/minds", []newKey{k, shared}[i%2].Key,
					fmt.Sprintf(`{"name":"racer %d"}`, i), "x-tollgate-workspace: other", "x-tollgate-role: admin")
			})
		}
		all.Wait()
		for _, res := range results {
			switch res.status {
			case http.StatusCreated:
				ids = append(ids, decodeJSON[struct{ ID string }](t, res.body).ID)
			case http.StatusForbidden:
			default:
				t.Errorf("%v", res)
			}
		}
		return ids
	}
	ids := race(8)
	if len(ids) != 3 {
		t.Fatalf("%d minds were made for 3 places", len(ids))
	}
	// A place that is free again goes to one of eight, each time.
	for range 3 {
		w.must(204, "@/api/v1/minds/"+ids[0], append(bearer(shared), "-X", "DELETE")...)
		within(t, time.Minute, "free again", func() error {
			got := race(8)
			if len(got) == 0 {
				return fmt.Errorf("no place is free")
			}
			if len(got) != 1 {
				t.Fatalf("%d minds were made for 1 place", len(got))
			}
			ids[0] = got[0]
			return nil
		})
	}
	// A creation that fails takes no place, and neither does a deletion that fails
	// give one back.
	w.must(204, "@/api/v1/minds/"+ids[1], append(bearer(k), "-X", "DELETE")...)
	for range 4 {
		if status, body := post(k, "minds", `{"name":""}`); status != 400 && status != 403 {
			t.Errorf("no name: %d %s", status, body)
		}
	}
	within(t, time.Minute, "made in the place that failures left", func() error {
		status, body := post(k, "minds", `{"name":"last"}`)
		if status != 201 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	w.must(404, "@/api/v1/minds/"+ids[1], append(bearer(k), "-X", "DELETE")...)
	if status, body := post(k, "minds", `{"name":"one too many"}`); status != 403 || !strings.Contains(body, `"statusMessage":"Forbidden"`) {
		t.Errorf("a fourth: %d %s", status, body)
	}

	// What is another workspace's has the bytes of what never was.
	foreign := w.must(404, "@/api/v1/minds/"+ids[0], bearer(other)...)
	if unknown := w.must(404, "@/api/v1/minds/mind-99999", bearer(other)...); strings.ReplaceAll(unknown, "mind-99999", ids[0]) != foreign {
		t.Errorf("another workspace's: %s\nunknown: %s", foreign, unknown)
	}
	w.must(404, "@/api/v1/minds/"+ids[0], append(bearer(other), "-X", "DELETE")...)
	w.must(200, "@/api/v1/minds/"+ids[0], bearer(k)...)
	if list := w.must(200, "@/api/v1/minds", append(bearer(other), "-H", "x-tollgate-workspace: acme")...); strings.Contains(list, ids[0]) {
		t.Errorf("the list of another workspace: %s", list)
	}
}
