//go:build linux

package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// testBackup follows docs/backup.md: keys and events are saved while it runs, the
// data directory is lost, and all of it comes back in another one.
func testBackup(t *testing.T, b *bench) {
	g := newGate(t, b)
	g.env = append(g.env, "TOLLGATE_OPERATOR_KEY="+operatorOfTests)
	g.start("up")
	g.waitReady()
	kept, revoked := g.key("--name", "kept", "--labels", "team=a"), g.key("--name", "revoked")
	for _, k := range []newKey{kept, revoked} {
		for range 5 {
			if res := g.chat(k.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
				t.Fatal(res)
			}
		}
		g.eventsOf(k, 5)
	}
	g.cli("key", "revoke", revoked.ID)
	before, keys := tokensByKey(g.events()), g.cli("key", "show", kept.ID, "-o", "json")

	file := filepath.Join(g.dir, "tollgate.backup")
	stdout, stderr, code := g.tryCLI("backup", "--events", "-o", file)
	if code != 0 || !strings.Contains(stdout, "10 usage events") || !strings.Contains(stderr, "0600") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's mode is %v, %v", info.Mode(), err)
	}
	for _, secret := range []string{kept.Key, revoked.Key, operatorOfTests} {
		if found := contains(t, g.dir, secret); len(found) > 0 {
			t.Errorf("a secret is in %v", found)
		}
	}
	// A running Tollgate's store is not restored into.
	if _, stderr, code := g.tryCLI("restore", file); code == 0 || !strings.Contains(stderr, "in use") {
		t.Errorf("restored under a running Tollgate: exit code %d, %s", code, stderr)
	}
	if code := g.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, stderr, code := g.tryCLI("restore", file); code == 0 || !strings.Contains(stderr, "not empty") {
		t.Errorf("restored over what is there: exit code %d, %s", code, stderr)
	}
	if err := os.RemoveAll(g.data); err != nil {
		t.Fatal(err)
	}
	torn := filepath.Join(g.dir, "torn.backup")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(torn, whole[:len(whole)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := g.tryCLI("restore", torn); code == 0 || !strings.Contains(stderr, "ends too early") {
		t.Errorf("restored a torn file: exit code %d, %s", code, stderr)
	}
	if _, err := os.Stat(g.data); err == nil {
		t.Error("a torn file made a store")
	}
	g.cli("restore", file)

	g.start("up")
	g.waitReady()
	if res := g.chat(revoked.Key, chatBody(chatModel, "")); res.status != http.StatusUnauthorized {
		t.Errorf("the revoked key: %v", res)
	}
	if after := g.cli("key", "show", kept.ID, "-o", "json"); stable(after) != stable(keys) {
		t.Errorf("the key was\n%sand is\n%s", keys, after)
	}
	after := tokensByKey(g.events())
	for k, want := range before {
		if after[k] != want {
			t.Errorf("key %s: %+v after the restore, %+v before", k, after[k], want)
		}
	}
	if res := g.chat(kept.Key, chatBody(chatModel, "")); res.status != http.StatusOK {
		t.Errorf("the key that was kept: %v", res)
	}
	g.eventsOf(kept, 6)
}

// stable is what of a key's JSON doesn't come from the memory of the process.
func stable(text string) string {
	var lines []string
	for part := range strings.SplitSeq(text, ",") {
		if !strings.Contains(part, "Used") {
			lines = append(lines, part)
		}
	}
	return strings.Join(lines, ",")
}

// total is what events add up to.
type total struct{ requests, input, output int }

func tokensByKey(events []event) map[string]total {
	sums := map[string]total{}
	for _, e := range events {
		s := sums[e.Data.Key]
		sums[e.Data.Key] = total{s.requests + 1, s.input + e.Data.InputTokens, s.output + e.Data.OutputTokens}
	}
	return sums
}
