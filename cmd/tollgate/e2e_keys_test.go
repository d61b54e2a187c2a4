//go:build linux

package main_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testKeyManagement goes through what three services document of their keys, step
// by step, with the command line and curl, from a catalog each. Then no key that
// was ever shown stands anywhere.
func testKeyManagement(t *testing.T, b *bench) {
	for _, service := range []struct {
		name, catalog string
		walk          func(*testing.T, *keyWalk)
	}{
		{"Minds", mindsCatalog, walkMinds},
		{"Podstack", podstackCatalog, walkPodstack},
		{"Baseten", basetenCatalog, walkBaseten},
	} {
		t.Run(service.name, func(t *testing.T) {
			w := &keyWalk{gate: newGate(t, b)}
			text := strings.ReplaceAll(service.catalog, "BACKEND", w.backendURL)
			if err := os.WriteFile(filepath.Join(w.dir, "catalog.yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			w.start("up")
			w.waitReady()
			w.secrets = append(w.secrets, strings.TrimSpace(readFile(t, filepath.Join(w.data, "operator.key"))))
			service.walk(t, w)
			w.leavesNoSecret(t)
		})
	}
}

// keyWalk is a gate, and all secrets that it showed.
type keyWalk struct {
	*gate
	secrets []string
	// tollgate is its process where it is not what the gate started but a child of
	// that; else 0.
	tollgate int
	said     bytes.Buffer // all that the command line and curl printed, but for the answers with a secret
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// curl runs curl on a path of the management API (a path of the gateway where it
// begins with @) and returns the status and the body.
func (w *keyWalk) curl(path string, args ...string) (status int, body string) {
	w.t.Helper()
	url := "http://" + w.api + path
	if rest, ok := strings.CutPrefix(path, "@"); ok {
		url = "http://" + w.gateway + rest
	}
	cmd := exec.CommandContext(w.t.Context(), "curl", append([]string{"-sS", "-w", "\n%{http_code}", url}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("curl %s: %v", path, err)
	}
	text := string(out)
	at := strings.LastIndexByte(text, '\n')
	status, err = strconv.Atoi(text[at+1:])
	if err != nil {
		w.t.Fatalf("curl %s: %v", path, err)
	}
	return status, text[:at]
}

// must is curl that expects a status.
func (w *keyWalk) must(status int, path string, args ...string) string {
	w.t.Helper()
	got, body := w.curl(path, args...)
	if got != status {
		w.t.Fatalf("curl %s: %d %s, want %d", path, got, body, status)
	}
	if !strings.Contains(body, `"key":"`) {
		w.said.WriteString(body)
	}
	return body
}

// made is must for an answer with a secret.
func (w *keyWalk) made(body string) newKey {
	w.t.Helper()
	k := decodeJSON[newKey](w.t, body)
	if k.ID == "" || k.Key == "" {
		w.t.Fatalf("no key in %s", body)
	}
	w.secrets = append(w.secrets, k.Key)
	return k
}

// create is key create.
func (w *keyWalk) create(args ...string) newKey {
	w.t.Helper()
	return w.made(w.cli(append([]string{"key", "create", "-o", "json"}, args...)...))
}

// say is a command whose output must have no secret.
func (w *keyWalk) say(args ...string) string {
	w.t.Helper()
	stdout, stderr, code := w.tryCLI(args...)
	w.said.WriteString(stdout + stderr)
	if code != 0 {
		w.t.Fatalf("tollgate %v: exit code %d: %s", args, code, stderr)
	}
	return stdout
}

// leavesNoSecret stops the gate, crashing, and looks for every secret in what is
// left: the data directory, logs, events, metrics and the crash itself.
func (w *keyWalk) leavesNoSecret(t *testing.T) {
	t.Helper()
	w.say("events", "list", "--since", "24h", "-o", "json")
	for _, list := range [][]string{{"key", "list"}, {"key", "list", "-o", "json"}} {
		if _, out, code := w.tryCLI(list...); code == 0 {
			w.said.WriteString(out)
		}
	}
	for _, env := range w.env {
		if addr, ok := strings.CutPrefix(env, "TOLLGATE_METRICS_ADDR="); ok {
			w.said.WriteString(w.try(http.MethodGet, "http://"+addr+"/metrics", "", "").body)
		}
	}
	crashing := w.cmd.Process.Pid
	if w.tollgate != 0 {
		crashing = w.tollgate
	}
	if err := syscall.Kill(crashing, syscall.SIGQUIT); err != nil { // prints all goroutines
		t.Fatal(err)
	}
	w.wait(30 * time.Second)
	if !strings.Contains(w.out.String(), "goroutine ") {
		t.Error("there is no crash output to look into")
	}
	if w.said.Len() < 2000 {
		t.Errorf("only %d bytes were said", w.said.Len())
	}
	for i, secret := range w.secrets {
		hidden := secret[len(secret)/2:] // not even half of one
		if strings.Contains(w.said.String(), hidden) {
			t.Errorf("secret %d is in what was printed", i)
		}
		if strings.Contains(w.out.String(), hidden) {
			t.Errorf("secret %d is in the log or the crash output", i)
		}
		for _, path := range contains(t, w.dir, hidden) {
			if i > 0 || filepath.Base(path) != "operator.key" {
				t.Errorf("secret %d is in %s", i, path)
			}
		}
	}
}

const mindsCatalog = `
workspaces: [{id: demo, plan: lite, keyDefaults: {actions: [infer, manage]}, keyFormat: "minds_{hex:48}"}]
users:
  - {id: 550e8400-e29b-41d4-a716-446655440000, workspace: demo}
  - {id: 550e8400-e29b-41d4-a716-446655440001, workspace: demo}
plans: [{id: lite}]
routes: [{dialect: openai}, {dialect: minds}]
models: [{id: a/model, upstreams: [{url: "BACKEND"}]}]
`

func bearer(k newKey) []string { return []string{"-H", "Authorization: Bearer " + k.Key} }

// walkMinds is through the gateway, as Minds has it.
func walkMinds(t *testing.T, w *keyWalk) {
	const user, unauthorized = "550e8400-e29b-41d4-a716-446655440000", `{"statusCode":401,"statusMessage":"Unauthorized","message":"Invalid or missing API key"}`
	// Getting a key.
	first := w.create("--user", user)
	if !regexp.MustCompile(`^minds_[0-9a-f]{48}$`).MatchString(first.Key) {
		t.Fatal("the first key has another form")
	}
	// Identifying the authenticated user.
	if body := w.must(200, "@/api/v1/auth/me", bearer(first)...); body != `{"id":"`+user+`"}` {
		t.Errorf("me: %s", body)
	}
	// Creating, listing and deleting.
	made := w.made(w.must(201, "@/api/v1/api-keys", append(bearer(first), "-X", "POST", "-H", "Content-Type: application/json", "-d", `{"name":" prod "}`)...))
	unnamed := w.made(w.must(201, "@/api/v1/api-keys", append(bearer(first), "-X", "POST")...))
	list := w.must(200, "@/api/v1/api-keys", bearer(made)...)
	for _, want := range []string{`"id":"` + made.ID + `","name":"prod"`, `"id":"` + unnamed.ID + `","name":null`} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %s: %s", want, list)
		}
	}
	if !regexp.MustCompile(`"id":"` + made.ID + `"[^}]*"createdAt":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z","lastUsedAt":"\d{4}-`).MatchString(list) {
		t.Errorf("times in %s", list)
	}
	if body := w.must(204, "@/api/v1/api-keys/"+made.ID, append(bearer(first), "-X", "DELETE")...); body != "" {
		t.Errorf("a deletion answers %q", body)
	}
	for _, args := range [][]string{bearer(made), nil, {"-H", "Authorization: Bearer minds_"}} {
		if body := w.must(401, "@/api/v1/auth/me", args...); body != unauthorized {
			t.Errorf("401: %s", body)
		}
	}
	// A name of 101 characters, and a key of somebody else.
	if body := w.must(400, "@/api/v1/api-keys", append(bearer(first), "-d", `{"name":"`+strings.Repeat("x", 101)+`"}`, "-H", "Content-Type: application/json")...); !strings.Contains(body, "name") {
		t.Errorf("400: %s", body)
	}
	other := w.create("--user", "550e8400-e29b-41d4-a716-446655440001")
	w.must(404, "@/api/v1/api-keys/"+first.ID, append(bearer(other), "-X", "DELETE")...)
	// Rotating: a new key, the applications, then the old one.
	next := w.made(w.must(201, "@/api/v1/api-keys", append(bearer(first), "-X", "POST")...))
	w.must(204, "@/api/v1/api-keys/"+first.ID, append(bearer(next), "-X", "DELETE")...)
	w.must(401, "@/api/v1/auth/me", bearer(first)...)
	w.must(200, "@/api/v1/auth/me", bearer(next)...)
	leadsNowhereElse(t, w, next)
}

// leadsNowhereElse: of the management API a gateway has what Minds documents, for
// nobody but callers, and says so as Minds does.
func leadsNowhereElse(t *testing.T, w *keyWalk, k newKey) {
	t.Helper()
	w.must(401, "@/api/v1/api-keys", "-H", "Authorization: Bearer "+w.secrets[0]) // the operator's
	for _, target := range []string{
		"/api/v1", "/api/v1/", "/api/v1/models", "/api/v1/catalog", "/api/v1/auth/me/", "/api/v1/api-keys/", "/api/v1/api-keys/" + k.ID,
		"/api/v1/api-keys/" + k.ID + "/rotate", "/api/v1/auth", "/api/v1/AUTH/me", "/api/v1/api-keys/../catalog", "/api/v1/api-keys/x/../../../v1/freeze",
	} {
		for _, method := range []string{"GET", "POST"} {
			body := w.must(404, "@"+target, append(bearer(k), "-X", method, "--path-as-is")...)
			if !strings.HasPrefix(body, `{"statusCode":404,"statusMessage":"Not Found","message":"`) {
				t.Errorf("%s %s: %s", method, target, body)
			}
		}
	}
	w.must(404, "@/healthz", "--path-as-is") // which the replica answers its Envoy
	w.must(404, "@/api/v1/api-keys/../../../livez", "--path-as-is")
	for _, target := range []string{"/api/v1/api-keys/..%2fcatalog", "/api/v1/api-keys%2F" + k.ID} {
		w.must(307, "@"+target, append(bearer(k), "--path-as-is")...) // to the one spelling
		if body := w.must(404, "@"+target, append(bearer(k), "--path-as-is", "-L")...); !strings.HasPrefix(body, `{"statusCode":404,`) {
			t.Errorf("%s: %s", target, body)
		}
	}
	w.must(200, "@/api/v1//auth///me", append(bearer(k), "--path-as-is")...) // one spelling, before anything is routed
	// A body above the bound; without a key nobody waits for it at all.
	big := filepath.Join(t.TempDir(), "big.json")
	if err := os.WriteFile(big, []byte(`{"name":"`+strings.Repeat("x", 10<<20)+`"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	send := []string{"-H", "Content-Type: application/json", "-H", "Expect:", "--data-binary", "@" + big}
	w.must(413, "@/api/v1/api-keys", append(bearer(k), send...)...)
	w.must(413, "@/api/v1/api-keys", append(append(bearer(k), "-H", "Transfer-Encoding: chunked"), send...)...)
	w.must(401, "@/api/v1/api-keys", send...)
	w.must(404, "@/api/v1/catalog", append(bearer(k), send...)...)
	// The trail has the client's own address, whatever it says of itself.
	w.must(404, "@/api/v1/api-keys/"+k.ID[:len(k.ID)-1], append(bearer(k), "-X", "DELETE", "-H", "x-forwarded-for: 192.0.2.7", "-H", "x-tollgate-remote: 192.0.2.7:1", "--local-port", "10000-10999")...)
	trail := w.say("audit", "--since", "1h", "-o", "json")
	if strings.Contains(trail, "192.0.2.7") || !regexp.MustCompile(`"remote": ?"127\.0\.0\.1:10\d{3}"`).MatchString(trail) {
		t.Errorf("the trail is %s", trail)
	}
	// None of it is a request to a model.
	if events := w.say("events", "list", "--since", "1h", "-o", "json"); strings.Contains(events, `"admitted"`) || strings.Contains(events, "minds_") {
		t.Errorf("there are events: %s", events)
	}
}

const podstackCatalog = `
workspaces: [{id: demo, plan: open}]
plans: [{id: open}]
routes: [{dialect: podstack}, {dialect: openai}]
models: [{id: meta-llama/Llama-3.1-8B-Instruct, upstreams: [{url: "BACKEND"}]}]
`

// ask is the document's own request.
func (w *keyWalk) ask(header string) (int, string) {
	return w.curl("@/inference/v1/chat/completions", "-X", "POST", "-H", header, "-H", "Content-Type: application/json",
		"-d", `{"model": "meta-llama/Llama-3.1-8B-Instruct", "messages": [{"role": "user", "content": "Hello!"}]}`)
}

func walkPodstack(t *testing.T, w *keyWalk) {
	expect := func(status int, header string) string {
		t.Helper()
		got, body := w.ask(header)
		if got != status {
			t.Fatalf("%d %s, want %d", got, body, status)
		}
		return body
	}
	// Creating an inference key.
	k := w.create("--name", "Production App", "--actions", "infer", "--environment", "Production")
	expect(200, "Authorization: Bearer "+k.Key)
	expect(200, "Authorization: Bearer  "+k.Key+" ") // copied with white space
	// Viewing keys: name, prefix, creation date; when it was used last.
	within(t, time.Minute, "last used", func() error {
		row := regexp.MustCompile(k.ID + ` +Production App +` + k.Prefix + ` +workspace +- +infer +all +Production +20\S+ \S+ +20`)
		if list := w.say("key", "list"); !row.MatchString(list) {
			return fmt.Errorf("listed as %s", list)
		}
		return nil
	})
	// Rate limits by the key's settings: in force at once.
	w.say("key", "update", k.ID, "--requests-per-minute", "1", "--tokens-per-minute", "1000000") // counted from here
	expect(200, "Authorization: Bearer "+k.Key)
	if body := expect(429, "Authorization: Bearer "+k.Key); !strings.Contains(body, "rate_limit_exceeded") {
		t.Errorf("429: %s", body)
	}
	// An inference key, not an account token: each says which is needed.
	token := w.create("--name", "account", "--actions", "manage")
	if body := expect(403, "Authorization: Bearer "+token.Key); !strings.Contains(body, "inference key") || !strings.Contains(body, "account token") {
		t.Errorf("403: %s", body)
	}
	if body := w.must(403, "/api/v1/api-keys", bearer(k)...); !strings.Contains(body, "action manage") || !strings.Contains(body, "inference key") {
		t.Errorf("403: %s", body)
	}
	w.must(200, "/api/v1/api-keys", bearer(token)...)
	// Rotating, and deleting: immediately invalid.
	dev := w.create("--name", "Development")
	rotated := w.made(w.cli("key", "rotate", dev.ID, "--grace-period", "2s", "-o", "json"))
	expect(200, "Authorization: Bearer "+dev.Key)
	expect(200, "Authorization: Bearer "+rotated.Key)
	within(t, time.Minute, "refused after its grace period", func() error {
		if status, body := w.ask("Authorization: Bearer " + dev.Key); status != 401 {
			return fmt.Errorf("%d %s", status, body)
		}
		return nil
	})
	expect(200, "Authorization: Bearer "+rotated.Key)
	w.say("key", "revoke", dev.ID)
	expect(401, "Authorization: Bearer "+rotated.Key)
	// Keys that callers have already.
	old := "psk_live_51f0c9c2b7a84d0e9a3f6b1d2e4c8a70"
	w.secrets = append(w.secrets, old)
	file := filepath.Join(t.TempDir(), "keys.csv")
	if err := os.WriteFile(file, []byte("name,actions,plaintext\nlegacy,infer,"+old+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.say("key", "import", "--csv", file)
	expect(200, "Authorization: Bearer "+old)
	w.say("key", "import", "--csv", file)
}

const basetenCatalog = `
workspaces: [{id: demo, plan: open, keyDefaults: {actions: [infer, wake, manage, metrics]}, keyFormat: "{base62:8}.{base62:32}"}]
users: [{id: ada, workspace: demo, role: admin}, {id: max, workspace: demo}]
plans: [{id: open}]
routes: [{dialect: openai}]
models:
  - {id: abcd1234, workspaces: [demo], upstreams: [{url: "BACKEND"}]}
  - {id: efgh5678, workspaces: [demo], upstreams: [{url: "BACKEND"}]}
`

func apiKey(k newKey) []string { return []string{"-H", "Authorization: Api-Key " + k.Key} }

func walkBaseten(t *testing.T, w *keyWalk) {
	call := func(status int, k newKey, model string) {
		t.Helper()
		got, body := w.curl("@/v1/chat/completions", append(apiKey(k), "-H", "Content-Type: application/json", "-d", chatBody(model, ""))...)
		if got != status {
			t.Fatalf("%s: %d %s, want %d", model, got, body, status)
		}
	}
	// A personal key, of the documented form, with its user's permissions.
	ada := w.create("--user", "ada")
	if !regexp.MustCompile(`^[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}$`).MatchString(ada.Key) || len(ada.Prefix) != 8 {
		t.Fatal("the key has another form")
	}
	call(200, ada, "abcd1234")
	// A workspace key with full access, and one that is limited to selected models;
	// the latter calls and manages only these.
	full := w.made(w.must(201, "/api/v1/api-keys", append(apiKey(ada), "-H", "Content-Type: application/json", "-d", `{"kind":"workspace","name":"ci"}`)...))
	limited := w.made(w.must(201, "/api/v1/api-keys", append(apiKey(ada), "-H", "Content-Type: application/json", "-d", `{"kind":"workspace","models":["abcd1234"]}`)...))
	call(200, full, "efgh5678")
	call(200, limited, "abcd1234")
	call(403, limited, "efgh5678")
	w.must(200, "/api/v1/models/undeploy", append(apiKey(limited), "-H", "Content-Type: application/json", "-d", `{"model":"abcd1234"}`)...)
	call(404, full, "abcd1234")
	w.must(200, "/api/v1/models/deploy", append(apiKey(limited), "-H", "Content-Type: application/json", "-d", `{"model":"abcd1234"}`)...)
	call(200, full, "abcd1234")
	w.must(404, "/api/v1/models/undeploy", append(apiKey(limited), "-H", "Content-Type: application/json", "-d", `{"model":"efgh5678"}`)...)
	w.must(404, "/api/v1/api-keys/"+full.ID, append(apiKey(limited), "-X", "DELETE")...)
	w.must(403, "/api/v1/api-keys", append(apiKey(limited), "-H", "Content-Type: application/json", "-d", `{"models":null}`)...)
	// A member has a member's permissions.
	member := w.create("--user", "max")
	w.must(403, "/api/v1/api-keys", append(apiKey(member), "-H", "Content-Type: application/json", "-d", `{"kind":"workspace"}`)...)
	w.must(404, "/api/v1/api-keys/"+full.ID, apiKey(member)...)
	// The list shows when each key was first created and last used.
	list := w.must(200, "/api/v1/api-keys", apiKey(ada)...)
	if strings.Count(list, `"createdAt"`) < 4 || !regexp.MustCompile(`"id":"`+full.ID+`"[^}]*"lastUsedAt":"20`).MatchString(list) {
		t.Errorf("the list is %s", list)
	}
	// Rotating, and removing what nobody uses.
	next := w.made(w.must(200, "/api/v1/api-keys/"+full.ID+"/rotate", append(apiKey(ada), "-H", "Content-Type: application/json", "-d", `{"gracePeriod":"1h"}`)...))
	call(200, full, "abcd1234")
	call(200, next, "abcd1234")
	w.say("key", "show", full.ID)
	w.say("key", "revoke", full.ID, "--secret", "1")
	call(401, full, "abcd1234")
	call(200, next, "abcd1234")
	w.must(204, "/api/v1/api-keys/"+full.ID, append(apiKey(ada), "-X", "DELETE")...)
	call(401, next, "abcd1234")
}
