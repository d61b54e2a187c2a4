package events

import (
	"bytes"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

var update = flag.Bool("update", false, "write testdata anew; never for a version that was released")

func fullUsage() *authz.Usage {
	return &authz.Usage{
		Admission: &authz.Admission{
			ID: "0198f3c2-6c1e-7b7a-9d3e-0123456789ab", Replica: "r1", Workspace: "demo",
			Key: "550e8400-e29b-41d4-a716-446655440000", User: "7b0e8400-e29b-41d4-a716-446655440001",
			ExternalID: "cus_42",
			Labels:     []authz.Label{{Name: "team", Value: "blue"}, {Name: "cost", Value: "1"}, {Name: "team", Value: "red"}},
			Tags:       []authz.Label{{Name: "x-tag", Value: "nightly \"run\" <1>"}},
			Model:      "meta-llama/Llama-3.1-8B-Instruct", Dialect: "podstack",
			ClientRequestID: "req-1", TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			Stream: true, Multiplier: money.New(1, 0),
			Start: time.Date(2026, 11, 21, 10, 30, 2, 123456789, time.FixedZone("", 3600)),
		},
		Outcome: authz.Completed, Measurement: authz.Reported, Status: 200,
		Tokens:   authz.Tokens{Input: 120, CacheRead: 100, CacheCreation: 5, Output: 33, Reasoning: 8},
		Duration: 1500*time.Millisecond + 1, FirstByte: 200 * time.Microsecond, Upstream: "127.0.0.1:9100",
	}
}

// pricedUsage is fullUsage of a model that has rates, with all that may be said of
// money.
func pricedUsage() *authz.Usage {
	u := fullUsage()
	u.Admission.ID = "0198f3c2-6c1e-7b7a-9d3e-0123456789ad"
	u.Admission.Rates = []authz.Rate{{Unit: "input", Price: money.New(15, 2)}, {Unit: "cacheReadInput", Price: money.New(75, 3)}, {Unit: "request", Price: money.New(1, 18)}}
	u.Admission.RatesVersion, u.Admission.RatesFrom = 42, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	u.Admission.Multiplier = money.New(4, 1)
	u.Units = []authz.Quantity{{Unit: "request", Milli: 1000}, {Unit: "second", Milli: 1501}}
	u.ListCost, u.Cost, u.EstimatedCost = money.New(10500000000001, 18), money.New(42000000000004, 19), money.New(5, 6)
	u.Before = authz.Charge{List: money.New(3, 5), Cost: money.New(12, 6)}
	return u
}

func leastUsage() *authz.Usage {
	return &authz.Usage{
		Admission: &authz.Admission{ID: "0198f3c2-6c1e-7b7a-9d3e-0123456789ac", Workspace: "demo", Key: "k", Dialect: "minds", Multiplier: money.New(1, 0),
			Start: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)},
		Outcome: authz.Unknown, Measurement: authz.None,
	}
}

// The stored form is frozen: a sample that consumers have seen must come out the
// same for ever. Where fields are added, a new sample is, and the former become
// those of TestEarlierSamples.
func TestEventSamples(t *testing.T) {
	for name, e := range map[string]Event{
		"usage-v1-priced": FromUsage(Source("test"), pricedUsage()), "usage-v1-free": FromUsage(Source("test"), leastUsage()),
		"adjusted-v1-priced": Adjustment(Source("test"), pricedUsage()),
	} {
		got := append(e.AppendJSON(nil), '\n')
		path := "testdata/" + name + ".json"
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
		sampleReads(t, name, want, e)
	}
}

// TestEarlierSamples: events that are in the stream from before there was money are
// read as what they were.
func TestEarlierSamples(t *testing.T) {
	superseded := leastUsage()
	superseded.Superseded = true
	observed := leastUsage()
	observed.Admission.Key, observed.Admission.Observed = "", reason.KeyMissing
	for name, e := range map[string]Event{
		"usage-v1-full": FromUsage(Source("test"), fullUsage()), "usage-v1-least": FromUsage(Source("test"), leastUsage()),
		"usage-v1-superseded": FromUsage(Source("test"), superseded), "usage-v1-observed": FromUsage(Source("test"), observed),
		"adjusted-v1": Adjustment(Source("test"), fullUsage()),
	} {
		data, err := os.ReadFile("testdata/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		e.Data.Currency, e.Data.Multiplier = "", money.Amount{}
		sampleReads(t, name, data, e)
	}
}

// sampleReads checks that a sample is what the schema describes, and is read as e.
func sampleReads(t *testing.T, name string, sample []byte, e Event) {
	t.Helper()
	var back Event
	if err := json.Unmarshal(sample, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, e) {
		t.Errorf("%s reads as\n%+v\nwant\n%+v", name, back, e)
	}
	var members map[string]any
	if err := json.Unmarshal(sample, &members); err != nil {
		t.Fatal(err)
	}
	validate(t, name, schema(t), members)
}

func TestEventOfUsage(t *testing.T) {
	e := FromUsage(Source("test"), fullUsage())
	if e.Subject != "cus_42" || e.Source != "//test/tollgate" || e.ID != e.Data.RequestID {
		t.Errorf("envelope: %+v", e)
	}
	if want := time.Date(2026, 11, 21, 9, 30, 2, 123456000, time.UTC); e.Time != want || e.Data.Start != want {
		t.Errorf("time %v, start %v; want %v", e.Time, e.Data.Start, want)
	}
	if e.Data.Labels["team"] != "red" {
		t.Errorf("of a label that is there twice the last counts: %v", e.Data.Labels)
	}
	if e.Data.DurationMs != 1501 || e.Data.FirstByteMs != 1 {
		t.Errorf("duration %d, first byte %d", e.Data.DurationMs, e.Data.FirstByteMs)
	}
	if e := FromUsage(Source("test"), leastUsage()); e.Subject != "demo" {
		t.Errorf("subject %q without an externalId", e.Subject)
	}
}

func TestAdjustment(t *testing.T) {
	usage, late := FromUsage(Source("test"), leastUsage()), Adjustment(Source("test"), fullUsage())
	if late.Type != TypeAdjusted || late.ID == late.Data.Adjusts || late.Data.Adjusts != fullUsage().Admission.ID || late.Data.RequestID != late.Data.Adjusts {
		t.Errorf("%+v", late)
	}
	if late.DataSchema != usage.DataSchema || late.Source != usage.Source || late.Subject != "cus_42" || late.Time != late.Data.Start {
		t.Errorf("the envelope: %+v", late)
	}
	if again := Adjustment(Source("test"), fullUsage()); again.ID != late.ID {
		t.Errorf("made twice it has ids %s and %s", late.ID, again.ID)
	}
	if got := AdjustedSubject("demo", "k-1", "a/b"); got != "tollgate.usage.adjusted.v1.demo.k-1.a_b" {
		t.Errorf("subject %s", got)
	}
}

// schemaNode is as much of JSON Schema as the schema uses.
type schemaNode struct {
	ID                   string                 `json:"$id"`
	Type                 string                 `json:"type"`
	Const                any                    `json:"const"`
	Enum                 []any                  `json:"enum"`
	Required             []string               `json:"required"`
	Properties           map[string]*schemaNode `json:"properties"`
	AdditionalProperties *schemaNode            `json:"additionalProperties"`
	Format               string                 `json:"format"`
	Minimum              *float64               `json:"minimum"`
	Pattern              string                 `json:"pattern"`
	Ref                  string                 `json:"$ref"`
	Defs                 map[string]*schemaNode `json:"$defs"`
}

// resolve puts what a node refers to in its place.
func (s *schemaNode) resolve(t *testing.T, defs map[string]*schemaNode) {
	t.Helper()
	if s.Ref != "" {
		def := defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
		if def == nil {
			t.Fatalf("%s refers to nothing", s.Ref)
		}
		*s = *def
	}
	for _, p := range s.Properties {
		p.resolve(t, defs)
	}
	if s.AdditionalProperties != nil {
		s.AdditionalProperties.resolve(t, defs)
	}
}

func schema(t *testing.T) *schemaNode {
	t.Helper()
	var s schemaNode
	if err := json.Unmarshal(Schema, &s); err != nil {
		t.Fatal(err)
	}
	s.resolve(t, s.Defs)
	return &s
}

func validate(t *testing.T, at string, s *schemaNode, value any) {
	t.Helper()
	kind := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Float64: "integer", reflect.Map: "object"}[reflect.ValueOf(value).Kind()]
	if kind != s.Type {
		t.Errorf("%s is a %s, want %s", at, kind, s.Type)
	}
	if s.Const != nil && value != s.Const || s.Enum != nil && !slices.Contains(s.Enum, value) {
		t.Errorf("%s is %v, want %v %v", at, value, s.Const, s.Enum)
	}
	switch v := value.(type) {
	case float64:
		if v != float64(int64(v)) || s.Minimum != nil && v < *s.Minimum {
			t.Errorf("%s is %v", at, v)
		}
	case string:
		if _, err := time.Parse(time.RFC3339, v); s.Format == "date-time" && (err != nil || !strings.HasSuffix(v, "Z")) {
			t.Errorf("%s is %q", at, v)
		}
		if !regexp.MustCompile(s.Pattern).MatchString(v) {
			t.Errorf("%s is %q, want %s", at, v, s.Pattern)
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				t.Errorf("%s.%s is missing", at, name)
			}
		}
		for name, member := range v {
			switch sub := s.Properties[name]; {
			case sub != nil:
				validate(t, at+"."+name, sub, member)
			case s.AdditionalProperties != nil:
				validate(t, at+"."+name, s.AdditionalProperties, member)
			default:
				t.Errorf("%s.%s is not in the schema", at, name)
			}
		}
	}
}

// laterFields are always there, but not in events of before they were added: the
// schema can't require them.
var laterFields = []string{"listCost", "cost", "currency", "multiplier", "ratesVersion"}

// Struct and schema list the same fields, and what the struct can leave out is
// not required.
func TestSchemaListsTheFields(t *testing.T) {
	s := schema(t)
	if s.ID != SchemaID {
		t.Errorf("$id is %q", s.ID)
	}
	for typ, node := range map[reflect.Type]*schemaNode{reflect.TypeFor[Event](): s, reflect.TypeFor[UsageData](): s.Properties["data"]} {
		var fields, required []string
		for field := range typ.Fields() {
			name, opts, _ := strings.Cut(field.Tag.Get("json"), ",")
			fields = append(fields, name)
			if opts == "" && !slices.Contains(laterFields, name) {
				required = append(required, name)
			}
		}
		if want := slices.Sorted(maps.Keys(node.Properties)); !slices.Equal(slices.Sorted(slices.Values(fields)), want) {
			t.Errorf("%s has fields %v, the schema %v", typ, fields, want)
		}
		if !slices.Equal(required, node.Required) {
			t.Errorf("%s always has %v, the schema requires %v", typ, required, node.Required)
		}
	}
}

func anyUsage() *rapid.Generator[*authz.Usage] {
	return rapid.Custom(func(t *rapid.T) *authz.Usage {
		labels := rapid.SliceOf(rapid.Custom(func(t *rapid.T) authz.Label {
			return authz.Label{Name: rapid.String().Draw(t, "name"), Value: rapid.String().Draw(t, "value")}
		}))
		text := func(name string) string { return rapid.String().Draw(t, name) }
		count := func(name string) int64 { return rapid.Int64().Draw(t, name) }
		return &authz.Usage{
			Admission: &authz.Admission{
				ID: text("id"), Workspace: text("workspace"), Key: text("key"), User: text("user"), ExternalID: text("external"),
				Labels: labels.Draw(t, "labels"), Tags: labels.Draw(t, "tags"), Model: text("model"), Dialect: text("dialect"),
				ClientRequestID: text("client"), TraceParent: text("trace"), Stream: rapid.Bool().Draw(t, "stream"),
				Start: time.UnixMicro(rapid.Int64Range(0, 1<<52).Draw(t, "start")),
			},
			Outcome: authz.Outcome(text("outcome")), Measurement: authz.Measurement(text("measurement")), Status: rapid.Int().Draw(t, "status"),
			Tokens:   authz.Tokens{Input: count("in"), CacheRead: count("read"), CacheCreation: count("creation"), Output: count("out"), Reasoning: count("reasoning")},
			Duration: time.Duration(rapid.Int64Range(0, 1<<60).Draw(t, "duration")), FirstByte: time.Duration(rapid.Int64Range(0, 1<<60).Draw(t, "first")),
			Upstream: text("upstream"), Superseded: rapid.Bool().Draw(t, "superseded"),
		}
	})
}

// AppendJSON says what the structs' tags say.
func TestAppendJSONAgreesWithTags(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := FromUsage(Source("test"), anyUsage().Draw(t, "usage"))
		if rapid.Bool().Draw(t, "adjustment") {
			e = Adjustment(Source("test"), anyUsage().Draw(t, "late"))
		}
		got := e.AppendJSON([]byte("x"))
		if got[0] != 'x' {
			t.Fatal("dst was not appended to")
		}
		want, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var a, b Event
		if err := json.Unmarshal(got[1:], &a); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if err := json.Unmarshal(want, &b); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) || !reflect.DeepEqual(a, e) {
			t.Fatalf("AppendJSON:\n%s\njson.Marshal:\n%s", got[1:], want)
		}
		var ga, gb map[string]any // also which members there are
		_, _ = json.Unmarshal(got[1:], &ga), json.Unmarshal(want, &gb)
		for _, m := range []map[string]any{ga, gb} {
			delete(m, "time")
			delete(m["data"].(map[string]any), "start") // written with fewer digits
		}
		if !reflect.DeepEqual(ga, gb) {
			t.Fatalf("AppendJSON:\n%s\njson.Marshal:\n%s", got[1:], want)
		}
	})
}

var subjectForm = regexp.MustCompile(`^tollgate\.usage\.v1(\.[A-Za-z0-9_-]{1,128}){3}$`)

// What a stranger writes into a request ends up in events: it must stay in its
// place there.
func FuzzStrangersText(f *testing.F) {
	for _, s := range []string{"", "meta-llama/Llama-3.1", "a.b.>", "*", " ", "\xff\xfe", "\"},{\"id\":\"x", "\u2028é", strings.Repeat("ö", 300), "\x00\r\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := Subject(s, s, s); !subjectForm.MatchString(got) {
			t.Errorf("Subject is %q", got)
		}
		u := fullUsage()
		a := u.Admission
		a.Model, a.ClientRequestID, a.TraceParent = s, s, s
		a.Tags = []authz.Label{{Name: s, Value: s}}
		e := FromUsage(Source("test"), u)
		var back Event
		if err := json.Unmarshal(e.AppendJSON(nil), &back); err != nil {
			t.Fatal(err)
		}
		clean := strings.ToValidUTF8(s, "\uFFFD")
		if back.ID != a.ID || back.Data.Model != clean || back.Data.TraceParent != clean || back.Data.ClientRequestID != clean ||
			back.Data.Tags[clean] != clean || back.Data.Workspace != "demo" || back.Data.InputTokens != 120 {
			t.Errorf("read back: %+v", back)
		}
	})
}

func TestSubject(t *testing.T) {
	for _, c := range []struct{ model, want string }{
		{"meta-llama/Llama-3.1-8B", "tollgate.usage.v1.demo.k-1.meta-llama_Llama-3_1-8B"},
		{"", "tollgate.usage.v1.demo.k-1._"},
		{"größe", "tollgate.usage.v1.demo.k-1.gr__e"},
		{"a.>", "tollgate.usage.v1.demo.k-1.a__"},
	} {
		if got := Subject("demo", "k-1", c.model); got != c.want {
			t.Errorf("Subject of %q is %q, want %q", c.model, got, c.want)
		}
	}
}

func BenchmarkAppendJSON(b *testing.B) {
	e := FromUsage(Source("test"), fullUsage())
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}
