//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// testManaged asks two replicas, through the Envoy that they share, what dialects
// have of the management API: whichever of them answers, what was changed a moment
// ago holds, and none of it fails while one of them is restarted.
func testManaged(t *testing.T, d *deployment) {
	a, o := d.replicas[0], d.replicas[1]
	text := strings.Replace(readFile(t, d.catalog), "routes: [", "users: [{id: max, workspace: demo, role: admin}]\nroutes: [{dialect: minds}, {dialect: baseten}, ", 1)
	file := filepath.Join(a.dir, "managed.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.cli("apply", "-f", file)
	first := a.key("--user", "max", "--actions", "infer,manage,metrics")
	ask := func(status int, key, method, path, body string) answer {
		t.Helper()
		res := a.try(method, "http://"+a.gateway+path, key, body)
		if res.status != status {
			t.Errorf("%s %s: %v, want %d", method, path, res, status)
		}
		return res
	}
	within(t, time.Minute, "the way to the management API", func() error {
		if res := a.try(http.MethodGet, "http://"+a.gateway+"/api/v1/auth/me", first.Key, ""); res.body != `{"id":"max"}` {
			return fmt.Errorf("%v", res)
		}
		return nil
	})

	requests := regexp.MustCompile(`tollgate_workspace_requests_total\{model="` + regexp.QuoteMeta(chatModel) + `"\} (\d+)\n`)
	scraped := 0
	for i := range 20 {
		made := decodeJSON[newKey](t, ask(http.StatusCreated, first.Key, http.MethodPost, "/api/v1/api-keys", `{"name":"n`+strconv.Itoa(i)+`"}`).body)
		if list := ask(http.StatusOK, first.Key, http.MethodGet, "/api/v1/api-keys", ""); !strings.Contains(list.body, made.ID) || strings.Contains(list.body, `"key"`) {
			t.Errorf("the list is %s, without %s", list.body, made.ID)
		}
		if res := a.chat(made.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
			t.Errorf("a new key: %v", res)
		}
		ask(http.StatusForbidden, made.Key, http.MethodGet, "/metrics", "") // it has what keys have that say nothing else
		ask(http.StatusNoContent, first.Key, http.MethodDelete, "/api/v1/api-keys/"+made.ID, "")
		ask(http.StatusUnauthorized, made.Key, http.MethodGet, "/api/v1/auth/me", "")
		if res := a.chat(made.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
			t.Errorf("a key that was deleted: %v", res)
		}
		res := a.try(http.MethodGet, "http://"+a.gateway+"/metrics", "", "", "Authorization: Api-Key "+first.Key)
		if n := requests.FindStringSubmatch(res.body); len(n) == 2 && res.status == http.StatusOK {
			if now, _ := strconv.Atoi(n[1]); now < scraped || now > i+1 {
				t.Errorf("a scrape of %d requests tells %d, after %d", i+1, now, scraped)
			} else {
				scraped = now
			}
		} else if i > 0 {
			t.Errorf("a scrape: %v", res)
		}
	}
	for _, r := range d.replicas {
		told := regexp.MustCompile(`(?m)^tollgate_management::` + regexp.QuoteMeta(r.grpc) + `::rq_success::(\d+)$`)
		within(t, time.Minute, "20 requests at the replica at "+r.grpc, func() error {
			answered := told.FindStringSubmatch(a.proxyAdmin("/clusters"))
			if len(answered) != 2 {
				return errors.New("Envoy tells of none")
			}
			if n, err := strconv.Atoi(answered[1]); err != nil || n < 20 {
				return fmt.Errorf("it answered %s", answered[1])
			}
			return nil
		})
	}

	var asked, failed atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for ; ; asked.Add(1) {
			select {
			case <-stop:
				return
			default:
			}
			if res := a.try(http.MethodGet, "http://"+a.gateway+"/api/v1/auth/me", first.Key, ""); res.status != http.StatusOK {
				if failed.Add(1) <= 5 {
					t.Errorf("while a replica is restarted: %v", res)
				}
			}
		}
	}()
	if code := o.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d at SIGTERM", code)
	}
	o.start("serve")
	o.waitServing()
	close(stop)
	<-stopped
	t.Logf("%d requests while a replica was restarted, %d failed", asked.Load(), failed.Load())
}
