package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// sample is the catalog that the product's description shows.
func sample(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/sample.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t testing.TB, text string) *Catalog {
	t.Helper()
	c, err := Parse("catalog.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// problems lists what Parse finds, without the lines it shows.
func problems(t testing.TB, text string) []string {
	t.Helper()
	_, err := Parse("c", []byte(text))
	if err == nil {
		return nil
	}
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("%q: the error is a %T", text, err)
	}
	var list []string
	for _, p := range all.Problems {
		p.Text = ""
		list = append(list, p.String())
	}
	return list
}

// TestSample: the described catalog is right, and is the same when read back from
// what is stored of it.
func TestSample(t *testing.T) {
	c := mustParse(t, string(sample(t)))
	stored, err := Encode(c)
	if err != nil || !bytes.HasPrefix(stored, []byte(`{"v":1,`)) {
		t.Fatalf("stored as %s: %v", stored, err)
	}
	again, err := Encode(mustParse(t, string(stored)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored, again) {
		t.Errorf("stored as\n%s\nthen as\n%s", stored, again)
	}
}

// TestStored reads a catalog as the first form of it was stored, and finds
// every value that was in it.
func TestStored(t *testing.T) {
	for _, name := range []string{"stored.v1.json", "stored.v1-managed.json", "stored.v1-credit.json"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Encode(mustParse(t, string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.TrimSpace(b), got) {
			t.Errorf("%s: read and stored again:\n%s\nwant\n%s", name, got, b)
		}
	}
}

func TestParseProblems(t *testing.T) {
	const workspace = "plans: [{id: p}]\nworkspaces: [{id: w, plan: p}]\n"
	for _, c := range []struct{ text, want string }{
		{"a: 1", `c:1:1: unknown field "a"; it may be v, workspaces, users, plans, models, routes, settings`},
		{"model: []", `c:1:1: unknown field "model"; did you mean "models"?`},
		{"plans:\n  - id: p\n    limts: {}", `c:3:5: plans[0]: unknown field "limts"; did you mean "limits"?`},
		{"plans: []\nplans: []", `c:2:1: "plans" stands twice, also on line 1: keep one`},
		{"plans: {}", `c:1:8: plans: want a list, not a mapping`},
		{"- 1", `c:1:1: want fields (name: value), not a list`},
		{"plans: [p]", `c:1:9: plans[0]: want fields (name: value), not a string`},
		{"plans: [{id: 1}]", `c:1:14: plans[0].id: want a string, not 1: put it in quotes, "1"`},
		{"plans: [{id: }]", `c:1:13: plans[0].id: want a string, not nothing: write one or leave the field out`},
		{"plans: [{limits: {}}]", `c:1:9: plans[0].id: is missing: it has no default`},
		{"plans: [{id: P}]", `c:1:14: plans[0].id: an id here is 1 to 63 of a-z, 0-9 and -`},
		{"plans: [{id: p}, {id: p}]", `c:1:23: plans[1].id: there is another plan "p": ids are unique`},
		{"plans: [{id: p, multiplier: 0.4}]", `c:1:29: plans[0].multiplier: want a string, not 0.4: put it in quotes, "0.4"`},
		{"plans: [{id: p, multiplier: '-1'}]", `c:1:29: plans[0].multiplier: want a decimal that isn't negative, such as "0.15"`},
		{"plans: [{id: p, multiplier: '1.000000000000000001'}]", `c:1:29: plans[0].multiplier: 19 digits are more than can be counted exactly: use 18 at most`},
		{"plans: [{id: p, limits: {requestsPerMinute: '60'}}]", `c:1:45: plans[0].limits.requestsPerMinute: want a whole number such as 60, not a string: take the quotes away`},
		{"plans: [{id: p, limits: {requestsPerMinute: 0}}]", `c:1:45: plans[0].limits.requestsPerMinute: a limit of 0 would let nothing through; leave it out for no limit`},
		{"plans: [{id: p, limits: {perUser: {tokensPerMinute: -1}}}]", `c:1:53: plans[0].limits.perUser.tokensPerMinute: a limit is 1 or more; leave it out for no limit`},
		{"plans: [{id: p, limits: {tokensPerMinute: 1, perUser: {}}}]", `c:1:25: plans[0].limits: limits are either flat, which means per key, or under perKey, perUser, perWorkspace and perModel, not both`},
		{"plans: [{id: p, limits: {perModel: {'a*': {}}}}]", `c:1:43: plans[0].limits.perModel["a*"]: want a model's id, a prefix such as "meta-llama/*", or "*"`},
		{"plans: [{id: p, limits: {requestsPerMinute: 0x10}}]", `c:1:45: plans[0].limits.requestsPerMinute: want a whole number such as 60, not 0x10`},
		{"plans: [{id: p, limits: {requestsPerMinute: 010}}]", `c:1:45: plans[0].limits.requestsPerMinute: want a whole number such as 60, not 010`},
		{"plans: [{id: 1}]\nworkspaces: [{id: w, plan: p}]", `c:1:14: plans[0].id: want a string, not 1: put it in quotes, "1"`},
		{"plans: {id: p}\nworkspaces: [{id: w, plan: p}]", `c:1:8: plans: want a list, not a mapping`},
		{"plans: [{id: p, limts: {}}]\nworkspaces: [{id: w, plan: lite}]", `c:1:17: plans[0]: unknown field "limts"; did you mean "limits"?
c:2:28: workspaces[0].plan: there is no plan "lite"; declare it under plans`},
		{"plans: [{id: p, resources: {minds: -1}}]", `c:1:36: plans[0].resources.minds: a cap is 0, which closes the resource, or more`},
		{"plans: [{id: p, budget: {period: week, amount: '1'}}]", `c:1:34: plans[0].budget.period: want one of day, month, total, not "week"`},
		{"workspaces: [{id: w, plan: p}]", `c:1:28: workspaces[0].plan: there is no plan "p"; declare it under plans`},
		{"plans: [{id: lite}]\nworkspaces: [{id: w, plan: lit}]", `c:2:28: workspaces[0].plan: there is no plan "lit"; did you mean "lite"?`},
		{"plans: [{id: p}]\nworkspaces: [{id: w, plan: p, keyDefaults: {actions: [infer, infer]}}]", `c:2:62: workspaces[0].keyDefaults.actions[1]: "infer" stands twice`},
		{workspace + "users: [{id: u, workspace: w, role: boss}]", `c:3:37: users[0].role: want one of admin, member, not "boss"`},
		{workspace + "users: [{id: u, workspace: w}, {id: u, workspace: w}]", `c:3:37: users[1].id: there is another user "u" in this workspace`},
		{workspace + "users: [{id: a b, workspace: v}]", `c:3:14: users[0].id: a user's id is 1 to 128 letters, digits and . _ @ : + = | -
c:3:30: users[0].workspace: there is no workspace "v"; declare it under workspaces`},
		{"models: [{id: 'x*'}]", `c:1:15: models[0].id: a model's id is 1 to 256 letters, digits and . _ : / @ + -, the first a letter or digit`},
		{"models: [{id: m, deployed: yes}]", `c:1:28: models[0].deployed: want true or false, not a string`},
		{"models: [{id: m, workspaces: [w]}]", `c:1:31: models[0].workspaces[0]: there is no workspace "w"; declare it under workspaces`},
		{"models: [{id: m, rates: {inptu: '1'}}]", `c:1:33: models[0].rates.inptu: there is no unit "inptu"; did you mean "input"?`},
		{"models: [{id: m, cluster: c, upstreams: [{url: 'http://h'}]}]", `c:1:27: models[0].cluster: a model has upstreams or a cluster of yours, not both`},
		{"models: [{id: m, cluster: 'model:x'}]", `c:1:27: models[0].cluster: names that begin with model: or route: are Tollgate's own`},
		{"models: [{id: m, upstreams: [{url: 'http://h', weight: 0}]}]", `c:1:56: models[0].upstreams[0].weight: a weight is from 1 to 10000; leave the upstream out if it should get nothing`},
		{"models: [{id: m, upstreams: [{url: 'http://a/x'}, {url: 'http://b/y'}]}]", `c:1:57: models[0].upstreams[1].url: differs in scheme or path from the first: the upstreams of a model serve the same API`},
		{"models: [{id: m, credential: {from: 'env:A', header: host}}]", `c:1:54: models[0].credential.header: the header host has another use: choose another one`},
		{"routes: [{dialect: openay}]", `c:1:20: routes[0].dialect: there is no dialect "openay"; it may be anthropic, azure, baseten, cohere, minds, minibase, minimax, openai, podstack`},
		{"routes: [{dialect: openai, observe: {workspace: w}}]", `c:1:37: routes[0].observe: is for mode: observe, which this route doesn't have`},
		{"routes: [{dialect: openai, mode: observe}]", `c:1:10: routes[0].observe.workspace: is missing: name the workspace that owns what passes without a key; only where there is one workspace it is the default`},
		{workspace + "routes: [{dialect: openai, mode: observe, observe: {workspace: v}}]", `c:3:64: routes[0].observe.workspace: there is no workspace "v"; declare it under workspaces`},
		{workspace + "routes: [{dialect: openai, mode: observe}]", ""},
		{"models: [{id: a/m}]\nroutes: [{dialect: minimax, model: a/m}]", ""},
		{"models: [{id: a/m}]\nroutes: [{dialect: minimax, model: m}]", `c:2:36: routes[0].model: there is no model "m"; declare it under models`},
		{"models: [{id: m}]\nroutes: [{dialect: minimax, model: m, upstream: 'http://h'}]", `c:2:36: routes[0].model: says where requests go that name no model, and so does upstream: keep one`},
		{"plans: [{id: p}]\nworkspaces: [{id: w, plan: p, generation: 'a b', managed: [x, x]}]", `c:2:43: workspaces[0].generation: a generation is 1 to 64 letters, digits and -; Tollgate writes it by itself
c:2:63: workspaces[0].managed[1]: "x" stands twice`},
		{"routes: [{dialect: openai}, {dialect: openai}]", `c:1:39: routes[1].dialect: there is another route of this dialect, routes[0], for all hosts: keep one, or give them hosts of their own`},
		{"routes: [{dialect: openai, maxWebSocketDuration: 2d}]", `c:1:50: routes[0].maxWebSocketDuration: want a duration from 1s to 24h, such as 90s or 1h30m`},
		{"routes: [{dialect: openai, settlement: later}]", `c:1:40: routes[0].settlement: want one of envoy, none, not "later"`},
		{"routes: [{dialect: openai, maxBody: 16MB}]", `c:1:37: routes[0].maxBody: want a size from 1KiB to 256MiB, such as 16MiB`},
		{"routes: [{dialect: openai, maxDuration: 1d}]", `c:1:41: routes[0].maxDuration: want a duration from 1s to 24h, such as 90s or 1h30m`},
		{"routes: [{dialect: openai, mode: ''}]", `c:1:34: routes[0].mode: is empty: write a value or leave the field out`},
		{"models:\n- id: m\n  workspaces:\n  # - acme\n", `c:3:14: models[0].workspaces: want a list, not nothing: write one or leave the field out`},
		{"plans: [{id: p, budget: null, limits: {perKey: ~}, models: }]", `c:1:25: plans[0].budget: want a mapping, not nothing: write one or leave the field out
c:1:48: plans[0].limits.perKey: want a mapping, not nothing: write one or leave the field out
c:1:59: plans[0].models: want a list, not nothing: write one or leave the field out`},
		{"models: [{id: m, deployed: null, upstreams: [null]}]\nusers:\n", `c:1:28: models[0].deployed: want true or false, not nothing: write one or leave the field out
c:1:46: models[0].upstreams[0]: want a mapping, not nothing: write one or leave the field out
c:2:7: users: want a list, not nothing: write one or leave the field out`},
		{"models: [{id: m, workspaces: ['']}]\nroutes: [{dialect: minimax, model: ''}]", `c:1:31: models[0].workspaces[0]: is empty: write a value or leave the field out
c:2:36: routes[0].model: is empty: write a value or leave the field out`},
		{"v: 0", `c:1:4: v: is 0: write 1 or leave the field out`},
		{"settings: {tagHeaders: [Authorization]}", `c:1:25: settings.tagHeaders[0]: this header carries keys, which must not get into events`},
		{"settings: {tagHeaders: [x-a, X-A]}", `c:1:30: settings.tagHeaders[1]: "X-A" stands twice`},
		{"settings: {modelHeader: x-tollgate-key-id}", `c:1:25: settings.modelHeader: the header x-tollgate-key-id has another use: choose another one`},
		{"settings: {billing: {unsettled: reported}}", `c:1:33: settings.billing.unsettled: want one of zero, charge, not "reported"`},
		{"v: 2", `c:1:4: v: this Tollgate reads form 1 of a catalog, not 2: use a newer one`},
		{"a: [1\nb: 2", `c:2:1: not YAML: ',' or ']' must be specified`},
		{"a: &x 1\nb: *x", "c:1:4: anchors, aliases and merge keys are not supported: write the value out\nc:2:4: anchors, aliases and merge keys are not supported: write the value out"},
		{"!!map {}", `c:1:1: tags are not supported: take the "!!map" away`},
		{"plans: []\n---\nmodels: []", `c:3:1: a second document: a catalog is one, so take out the ---`},
		{"plans:\n- id: \xff", "c:2:7: not UTF-8: save the file as UTF-8"},
	} {
		got := strings.Join(problems(t, c.text), "\n")
		if got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.text, got, c.want)
		}
	}
}

// TestParseMany: one run tells all that is wrong, in the order of the text, and
// stops at 20.
func TestParseMany(t *testing.T) {
	var b strings.Builder
	b.WriteString("models:\n")
	for i := range 15 {
		fmt.Fprintf(&b, "  - {id: M*%d, deploy: true}\n", i)
	}
	_, err := Parse("c", []byte(b.String()))
	var all *Error
	if !errors.As(err, &all) {
		t.Fatalf("got %v", err)
	}
	if len(all.Problems) != 20 || all.More != 10 {
		t.Errorf("%d problems and %d more, want 20 and 10", len(all.Problems), all.More)
	}
	if !slices.IsSortedFunc(all.Problems, func(a, b Problem) int { return a.Line - b.Line }) {
		t.Error("they are not in order")
	}
	if !strings.HasSuffix(err.Error(), "\n… and 10 more") {
		t.Errorf("the text doesn't say so:\n%v", err)
	}
}

func TestProblemShowsLine(t *testing.T) {
	_, err := Parse("dir/catalog.yaml", []byte("models:\n  - id: m\n    deploy: true\n"))
	want := "dir/catalog.yaml:3:5: models[0]: unknown field \"deploy\"; did you mean \"deployed\"?\n" +
		"    3 |     deploy: …\n" +
		"      |     ^"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// TestSecretsDontShow puts a secret where none belongs: no error repeats it.
func TestSecretsDontShow(t *testing.T) {
	const secret = "sk-live-7Qx"
	for _, text := range []string{
		"models: [{id: m, credential: " + secret + "}]",
		"models: [{id: m, credential: {from: " + secret + ", header: host}}]",
		"models: [{id: a b, credential: " + secret + "}]",
		"models: [{id: m, credential: [" + secret + "]}]",
		"models: [{id: m, credential: {from: [" + secret + "]}}]",
		"models: [{id: m, apiKey: " + secret + ", deploy: true}]",
		"models: [{id: m, deploy: true, apiKey: " + secret + "}]",
		"models: [{id: m, upstreams: [{url: 'http://u:" + secret + "@h', weight: 0}]}]",
		"models: [{id: m, upstreams: [{url: 'http://u:" + secret + "@h]}]",
		"models: [{id: m, credential: '" + secret + "}]",
		"routes: [{dialect: openai, upstream: 'http://h?k=" + secret + "', mode: x}]",
		"key: " + secret,
		"models:\n- id: m\n  credential:\n    " + secret + ": env:A\n",
	} {
		_, err := Parse("c", []byte(text))
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s\ngives %v", text, err)
		}
	}
}

// TestParseBounds: what is too large or nested too deeply is refused at once.
func TestParseBounds(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"#" + strings.Repeat(" ", MaxSize), "c: the catalog is larger than 4 MiB"},
		{strings.Repeat("[", 20_000), "c:1:33: more than 32 brackets inside each other"},
		{strings.Repeat("{a: ", 20_000), "c:1:129: more than 32 brackets inside each other"},
		{strings.Repeat("- ", 20_000), "c:1:101: indented by more than 100 columns"},
		{steps(500), "c:102:103: indented by more than 100 columns"},
		{strings.Repeat("? ", 20_000), "c:1:1: complex keys are not supported: write name: value"},
		{strings.Repeat("*a ", 20_000), "c:1:1: anchors, aliases and merge keys are not supported: write the value out"},
		{strings.Repeat("! ", 20_000), `c:1:1: tags are not supported: take the "!" away`},
	} {
		begin := time.Now()
		got := problems(t, c.text)
		if len(got) == 0 || got[0] != c.want {
			t.Errorf("%.20s…\n got %v\nwant %s", c.text, got, c.want)
		}
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("%.20s… took %v", c.text, d)
		}
	}
}

// steps is a mapping in a mapping in a mapping.
func steps(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

// TestParseLarge reads thousands of models.
func TestParseLarge(t *testing.T) {
	var b strings.Builder
	b.WriteString("plans: [{id: p}]\nworkspaces:\n")
	for i := range 1000 {
		fmt.Fprintf(&b, "  - {id: w%d, plan: p}\n", i)
	}
	b.WriteString("models:\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "  - id: m%d\n    workspaces: [w%d]\n    upstreams: [{url: \"http://10.0.0.1:80\"}]\n    rates: {input: \"0.1\"}\n", i, i%1000)
	}
	begin := time.Now()
	c := mustParse(t, b.String())
	if len(c.Models) != 2000 || c.Models[1999].Rates[0]["input"] != "0.1" {
		t.Errorf("%d models", len(c.Models))
	}
	t.Logf("%d KiB in %v", b.Len()>>10, time.Since(begin))
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f))
	for _, s := range []string{
		"", "# nothing\n", "workspaces:", "{}", "\ufeffmodels: []\r\n", "plans:\n\t- id: x", "models: [{id: m, deploy: true}]",
		"plans: [{id: p, limits: {requestsPerMinute: 1}}]", "a: |\n  b\n", "a: &b\n  *b", "? a\n: b", "<<: {}", "'", "\"\\x\"", "a: 'é'\n\xff",
		`{"routes": [{"dialect": "openai", "maxBody": "1KiB"}], "settings": {"tagHeaders": ["x-a"]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("c", data)
		if err != nil {
			var all *Error
			if !errors.As(err, &all) || len(all.Problems) == 0 {
				t.Fatalf("the error is %T: %v", err, err)
			}
			lines := strings.Split(string(data), "\n")
			for _, p := range all.Problems {
				if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > utf8.RuneCountInString(lines[p.Line-1])+1 {
					t.Fatalf("%d:%d is not in the text: %s", p.Line, p.Column, p.Message)
				}
			}
			return
		}
		stored, err := Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse("stored", stored)
		if err != nil {
			t.Fatalf("what was stored is refused: %v\n%s", err, stored)
		}
		if twice, err := Encode(again); err != nil || !bytes.Equal(stored, twice) {
			t.Fatalf("stored as %s, then as %s (%v)", stored, twice, err)
		}
		if _, err := Compile(c, Source{Env: func(string) (string, bool) { return "http://h", true }, File: func(string) ([]byte, error) { return []byte("s"), nil }}); err != nil {
			t.Fatalf("a valid catalog can't be used: %v", err)
		}
	})
}
