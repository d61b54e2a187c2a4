//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tollgate/events/natstest"
)

// What the official SDKs make of each refusal, through the real gateway: the
// class of the error, how often they try, and for how long they wait in between.
// The Python ones are tried here, all of them by `make conformance`.

// refused is what a caller has to see of a reason.
type refused struct {
	reason                  string
	status, anthropicStatus int // the latter: 0, the same
	code                    string
	anthropicType           string
	class                   string // in Python and Node
	retried                 bool
}

// refusals are the reasons that a call of chat can meet, in the order in which
// they are tried. (resource_limit_exceeded is met by creations alone.)
var refusals = []refused{
	{"key_missing", 401, 0, "invalid_api_key", "authentication_error", "AuthenticationError", false},
	{"key_invalid", 401, 0, "invalid_api_key", "authentication_error", "AuthenticationError", false},
	{"key_ambiguous", 400, 0, "invalid_request", "invalid_request_error", "BadRequestError", false},
	{"route_unknown", 404, 0, "", "", "NotFoundError", false},
	{"workspace_suspended", 403, 0, "workspace_suspended", "permission_error", "PermissionDeniedError", false},
	{"user_suspended", 403, 0, "user_suspended", "permission_error", "PermissionDeniedError", false},
	{"action_denied", 403, 0, "action_denied", "permission_error", "PermissionDeniedError", false},
	{"body_invalid", 400, 0, "invalid_request", "invalid_request_error", "BadRequestError", false},
	{"model_ambiguous", 400, 0, "invalid_request", "invalid_request_error", "BadRequestError", false},
	{"model_missing", 400, 0, "invalid_request", "invalid_request_error", "BadRequestError", false},
	{"model_unknown", 404, 0, "model_not_found", "not_found_error", "NotFoundError", false},
	{"model_not_deployed", 404, 0, "model_not_deployed", "not_found_error", "NotFoundError", false},
	{"model_denied", 403, 0, "model_not_found", "permission_error", "PermissionDeniedError", false},
	{"request_too_large", 413, 0, "request_too_large", "request_too_large", "", false},
	{"token_request_too_large", 400, 0, "token_request_too_large", "invalid_request_error", "BadRequestError", false},
	{"budget_exceeded", 429, 402, "insufficient_quota", "billing_error", "RateLimitError", false},
	{"concurrency_limit_exceeded", 429, 0, "rate_limit_exceeded", "rate_limit_error", "RateLimitError", true},
	{"rate_limit_exceeded", 429, 0, "rate_limit_exceeded", "rate_limit_error", "RateLimitError", true},
	{"token_limit_exceeded", 429, 0, "rate_limit_exceeded", "rate_limit_error", "RateLimitError", true},
	{"unavailable", 503, 0, "", "api_error", "InternalServerError", true},
}

// sdkCase is what a driver is told to do; see testdata/conformance.
type sdkCase struct {
	Name  string `json:"name"`
	SDK   string `json:"sdk"` // openai or anthropic
	Base  string `json:"base"`
	Key   string `json:"key"`
	Model string `json:"model"`
	// Do is chat, keyless (without the header of the key) or path (one that there
	// is not).
	Do        string            `json:"do"`
	Headers   map[string]string `json:"headers"`
	Body      map[string]any    `json:"body,omitempty"` // members put into the request
	Size      int               `json:"size,omitempty"` // of the prompt, in bytes
	Max       int               `json:"max,omitempty"`  // tokens
	Sleepless bool              `json:"sleepless"`      // Python only: sleep is noted and left out
	// patient: it really waits for its turn, and then it passes.
	patient bool
}

// sdkOutcome is what became of it.
type sdkOutcome struct {
	Name, Class, Code, Type, Message, RequestID, Body string
	Status                                            int
	Slept                                             []float64 // seconds; Python only
	// What the gateway saw.
	tries []time.Time
	after []string // retry-after-ms of each answer that was a refusal
}

// driver is the command of a program that speaks for SDKs.
type driver struct {
	language string
	command  func(t *testing.T) *exec.Cmd
}

func pythonDriver(b *bench) driver {
	return driver{"Python", func(t *testing.T) *exec.Cmd {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), b.python, filepath.Join("testdata", "conformance", "driver.py"))
		cmd.Env = append(os.Environ(), "PYTHONPATH="+b.pythonPath, "PYTHONDONTWRITEBYTECODE=1")
		return cmd
	}}
}

func (d driver) run(t *testing.T, cases []sdkCase) []sdkOutcome {
	t.Helper()
	var in, out, errs bytes.Buffer
	enc := json.NewEncoder(&in)
	for i := range cases {
		if err := enc.Encode(&cases[i]); err != nil {
			t.Fatal(err)
		}
	}
	cmd := d.command(t)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &in, &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("the driver in %s: %v\n%s", d.language, err, errs.String())
	}
	var outcomes []sdkOutcome
	for lines := bufio.NewScanner(&out); lines.Scan(); {
		outcomes = append(outcomes, decodeJSON[sdkOutcome](t, lines.Text()))
	}
	if len(outcomes) != len(cases) {
		t.Fatalf("the driver in %s told %d outcomes of %d\n%s", d.language, len(outcomes), len(cases), errs.String())
	}
	return outcomes
}

// recorder notes when requests come to the gateway, by the case that they name.
type recorder struct {
	*httptest.Server

	mu    sync.Mutex
	tries map[string][]time.Time
	after map[string][]string
}

func newRecorder(t *testing.T, gateway string) *recorder {
	t.Helper()
	r := &recorder{tries: map[string][]time.Time{}, after: map[string][]string{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: gateway})
	proxy.ModifyResponse = func(res *http.Response) error {
		if res.StatusCode >= 400 {
			r.mu.Lock()
			defer r.mu.Unlock()
			name := res.Request.Header.Get("X-Case")
			r.after[name] = append(r.after[name], res.Header.Get("Retry-After-Ms"))
		}
		return nil
	}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		name := req.Header.Get("X-Case")
		r.tries[name] = append(r.tries[name], time.Now())
		r.mu.Unlock()
		proxy.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// of adds to an outcome what the gateway saw of it.
func (r *recorder) of(o *sdkOutcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.tries, o.after = slices.Clone(r.tries[o.Name]), slices.Clone(r.after[o.Name])
}

// conformance is a gateway with a key for each reason.
type conformance struct {
	*gate
	*recorder
	nats  *natstest.Cluster
	other newKey // a second valid one
}

const conformanceCatalog = `
workspaces:
  - {id: demo, plan: open}
  - {id: gone, plan: open}
  - {id: poor, plan: poor}
users: [{id: ann, workspace: demo}]
plans:
  - {id: open}
  - {id: poor, budget: {period: month, amount: "0.000001"}}
routes: [{dialect: openai, maxBody: 64KiB}, {dialect: anthropic, maxBody: 64KiB}]
models:
  - {id: model, upstreams: [{url: %[1]q}], rates: {input: "10", output: "10"}}
  - {id: other, upstreams: [{url: %[1]q}]}
  - {id: cold, deployed: false, upstreams: [{url: %[1]q}]}
`

// newConformance starts a gateway on a NATS server of its own, which can be taken
// away.
func newConformance(t *testing.T, b *bench) *conformance {
	t.Helper()
	c := &conformance{gate: newGate(t, b), nats: natstest.StartCluster(t, natstest.Options{Servers: 1})}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/messages" {
			c.backend.ServeHTTP(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"id":"msg_1","type":"message","role":"assistant","model":"model","content":[{"type":"text","text":"hi"}],`+
			`"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":5}}`)
	}))
	t.Cleanup(upstream.Close)
	catalog := filepath.Join(c.dir, "catalog.yaml")
	if err := os.WriteFile(catalog, fmt.Appendf(nil, conformanceCatalog, upstream.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = append(c.env, "TOLLGATE_NATS_LISTEN=", "TOLLGATE_NATS_URL="+c.nats.URL(), "TOLLGATE_REVOCATION_BOUND=5m")
	c.start("up")
	c.waitReady()
	c.recorder = newRecorder(t, c.gateway)
	c.other = c.key("--workspace", "demo", "--name", "other")
	return c
}

// prepare makes a case of a reason for an SDK: with a key of its own, so that what
// one SDK uses up is not the other's.
func (c *conformance) prepare(reason, language, sdk string) sdkCase {
	c.t.Helper()
	s := sdkCase{
		Name: strings.Join([]string{reason, language, sdk}, " "), SDK: sdk, Base: c.URL, Model: "model", Do: "chat", Max: 8,
		Headers: map[string]string{}, Sleepless: language == "Python",
	}
	if sdk == "openai" {
		s.Base += "/v1"
	}
	s.Headers["x-case"] = s.Name
	flags := []string{"--workspace", "demo"}
	switch reason {
	case "key_missing":
		s.Do = "keyless"
	case "key_invalid":
		s.Key = "tg_garbage"
	case "key_ambiguous":
		s.Headers[map[string]string{"openai": "x-api-key", "anthropic": "api-key"}[sdk]] = c.other.Key
	case "route_unknown":
		s.Do = "path"
	case "workspace_suspended":
		flags = []string{"--workspace", "gone"}
	case "user_suspended":
		flags = append(flags, "--user", "ann")
	case "action_denied":
		flags = append(flags, "--actions", "manage")
	case "body_invalid":
		s.Body = map[string]any{"max_tokens": "many"}
	case "model_ambiguous":
		s.Body = map[string]any{"Model": "other"}
	case "model_missing":
		s.Model = ""
	case "model_unknown":
		s.Model = "no-such-model"
	case "model_not_deployed":
		s.Model = "cold"
	case "model_denied":
		flags = append(flags, "--models", "other")
	case "request_too_large":
		s.Size = 100 << 10
	case "token_request_too_large":
		flags, s.Max = append(flags, "--tokens-per-minute", "100"), 1000
	case "budget_exceeded":
		flags = []string{"--workspace", "poor"}
	case "concurrency_limit_exceeded":
		flags = append(flags, "--concurrent-requests", "1")
	case "rate_limit_exceeded":
		flags = append(flags, "--requests-per-minute", "1")
	case "token_limit_exceeded":
		flags, s.Max = append(flags, "--tokens-per-minute", "100"), 60
	}
	if s.Key == "" {
		s.Key = c.key(append(flags, "--name", s.Name)...).Key
	}
	return s
}

// useUp makes the first request of a key with a limit of one; hold one that lasts.
func (c *conformance) useUp(s sdkCase) {
	c.t.Helper()
	if res := c.chat(s.Key, `{"model":"model","max_tokens":60,"messages":[{"role":"user","content":"hi"}]}`, "x-backend-tokens: 60"); res.status != http.StatusOK {
		c.t.Fatalf("the first request: %v", res)
	}
}

func (c *conformance) hold(s sdkCase) (release func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.gateway+"/v1/chat/completions",
		strings.NewReader(`{"model":"model","stream":true,"max_tokens":4000,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Authorization": "Bearer " + s.Key, "Content-Type": "application/json", "X-Backend-Interval": "100ms", "X-Backend-Tokens": "4000",
	} {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req) //nolint:bodyclose // release does
	if err != nil || res.StatusCode != http.StatusOK {
		c.t.Fatalf("the request that is to last: %v, %v", res, err)
	}
	return func() {
		cancel()
		_ = res.Body.Close()
	}
}

// check compares an outcome with what is expected.
func (c *conformance) check(t *testing.T, language string, s sdkCase, want refused, o *sdkOutcome) {
	t.Helper()
	if s.patient {
		if o.Class != "none" || len(o.tries) != 2 {
			t.Errorf("%s: it should go through at the second try: %+v", o.Name, o)
		}
		c.checkWaits(t, s, o)
		return
	}
	status, tries := want.status, 1
	if s.SDK == "anthropic" && want.anthropicStatus != 0 {
		status = want.anthropicStatus
	}
	if want.retried {
		tries = 3
	}
	if o.Status != status || len(o.tries) != tries || o.Message == "" || o.RequestID == "" && want.reason != "route_unknown" {
		t.Errorf("%s: status %d after %d tries, want %d after %d: %+v", o.Name, o.Status, len(o.tries), status, tries, o)
	}
	if strings.Contains(o.Body, s.Key) && s.Key != "" {
		t.Errorf("%s: the refusal repeats the key", o.Name)
	}
	switch {
	case s.SDK == "openai" && o.Code != want.code:
		t.Errorf("%s: code %q, want %q", o.Name, o.Code, want.code)
	case s.SDK == "anthropic" && want.anthropicType != "" && o.Type != want.anthropicType:
		t.Errorf("%s: type %q, want %q", o.Name, o.Type, want.anthropicType)
	}
	class := want.class
	if s.SDK == "anthropic" && want.anthropicStatus == http.StatusPaymentRequired {
		class = "" // the SDKs differ
	}
	if s.SDK == "anthropic" && status == http.StatusServiceUnavailable {
		class = "ServiceUnavailableError"
	}
	if language != "Go" && class != "" && o.Class != class {
		t.Errorf("%s: %s, want %s", o.Name, o.Class, class)
	}
	c.checkWaits(t, s, o)
}

// checkWaits sees to it that nobody came back sooner than told.
func (c *conformance) checkWaits(t *testing.T, s sdkCase, o *sdkOutcome) {
	t.Helper()
	for i := 1; i < len(o.tries); i++ {
		waited, told := o.tries[i].Sub(o.tries[i-1]), time.Second // retry-after: 1
		if i <= len(o.after) && o.after[i-1] != "" {
			told, _ = time.ParseDuration(o.after[i-1] + "ms")
		}
		if s.Sleepless {
			if i > len(o.Slept) {
				t.Errorf("%s: it slept %d times", o.Name, len(o.Slept))
				continue
			}
			waited = time.Duration(o.Slept[i-1] * float64(time.Second))
		}
		if waited < told || waited > told+told/2+2*time.Second {
			t.Errorf("%s: it waited %v before try %d, was told %v", o.Name, waited, i+1, told)
		}
	}
}

// testConformance is the Python SDKs', whose waiting is left out.
func testConformance(t *testing.T, b *bench) {
	c := newConformance(t, b)
	c.run(t, pythonDriver(b))
}

// run tries all reasons with one language's SDKs, and returns the outcomes.
func (c *conformance) run(t *testing.T, d driver) []sdkOutcome {
	t.Helper()
	var now, later batch
	var releases []func()
	var used time.Time // when the last key was used up
	for _, want := range refusals {
		for _, sdk := range []string{"openai", "anthropic"} {
			if want.reason == "unavailable" {
				continue // when NATS is gone
			}
			s := c.prepare(want.reason, d.language, sdk)
			if want.reason == "concurrency_limit_exceeded" {
				releases = append(releases, c.hold(s))
			}
			if want.reason != "rate_limit_exceeded" && want.reason != "token_limit_exceeded" {
				now.add(s, want)
				continue
			}
			c.useUp(s)
			used = time.Now()
			if s.patient = !s.Sleepless; s.patient {
				later.add(s, want)
			} else {
				now.add(s, want)
			}
		}
	}
	c.cli("workspace", "suspend", "gone")
	c.cli("user", "suspend", "ann", "--workspace", "demo")
	outcomes := c.drive(t, d, &now)
	for _, release := range releases {
		release()
	}
	c.cli("workspace", "resume", "gone")
	c.cli("user", "resume", "ann", "--workspace", "demo")
	if len(later.cases) > 0 {
		// Some SDKs don't wait for longer than 8 s: so they begin when it is nearly over.
		time.Sleep(time.Until(used.Add(56 * time.Second)))
		outcomes = append(outcomes, c.drive(t, d, &later)...)
	}
	return append(outcomes, c.runUnavailable(t, d)...)
}

// batch is cases, and what is expected of each.
type batch struct {
	cases []sdkCase
	wants []refused
}

func (b *batch) add(s sdkCase, want refused) {
	b.cases, b.wants = append(b.cases, s), append(b.wants, want)
}

// drive runs a batch and checks its outcomes.
func (c *conformance) drive(t *testing.T, d driver, b *batch) []sdkOutcome {
	t.Helper()
	outcomes := d.run(t, b.cases)
	for i := range outcomes {
		c.of(&outcomes[i])
		c.check(t, d.language, b.cases[i], b.wants[i], &outcomes[i])
	}
	return outcomes
}

// runUnavailable tries keys that nobody has used, with NATS away.
func (c *conformance) runUnavailable(t *testing.T, d driver) []sdkOutcome {
	t.Helper()
	want := refusals[len(refusals)-1]
	var b batch
	for _, sdk := range []string{"openai", "anthropic"} {
		b.add(c.prepare(want.reason, d.language, sdk), want)
	}
	c.nats.Kill9(0)
	outcomes := c.drive(t, d, &b)
	c.nats.Restart(0)
	c.nats.WaitReady()
	within(t, time.Minute, "taking changes again", func() error {
		if _, stderr, code := c.tryCLI("key", "create", "--workspace", "demo"); code != 0 {
			return fmt.Errorf("%s", stderr)
		}
		return nil
	})
	return outcomes
}
