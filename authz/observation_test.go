package authz

import (
	"bytes"
	"encoding/hex"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestObservationComesBackAsItWas(t *testing.T) {
	text, number, yes := rapid.StringN(0, 40, 200), rapid.Int64(), rapid.Bool()
	rapid.Check(t, func(t *rapid.T) {
		o := Observation{
			Status: rapid.Int().Draw(t, "status"), Flags: text.Draw(t, "flags"), Details: text.Draw(t, "details"),
			Duration: time.Duration(number.Draw(t, "duration")), FirstByte: time.Duration(number.Draw(t, "first")), Upstream: text.Draw(t, "upstream"),
			Reported: yes.Draw(t, "reported"), Partly: yes.Draw(t, "partly"),
			Tokens: Tokens{
				Input: number.Draw(t, "in"), CacheRead: number.Draw(t, "read"), CacheCreation: number.Draw(t, "created"),
				Output: number.Draw(t, "out"), Reasoning: number.Draw(t, "reasoning"),
			},
			Events: number.Draw(t, "events"), Bytes: number.Draw(t, "bytes"), Complete: yes.Draw(t, "complete"),
			Untold: yes.Draw(t, "untold"), Unwatched: yes.Draw(t, "unwatched"),
		}
		for range rapid.IntRange(0, 8).Draw(t, "told") {
			o.Told = append(o.Told, Label{Name: text.Draw(t, "member"), Value: text.Draw(t, "value")})
		}
		got, err := ParseObservation(o.AppendBinary(nil))
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Fatalf("went in as\n%+v\ncame back as\n%+v, %v", o, got, err)
		}
	})
}

// TestFrozenObservations reads observations as earlier versions wrote them. A new
// version adds a sample; none is ever changed.
func TestFrozenObservations(t *testing.T) {
	want := Observation{
		Status: 200, Flags: "DC", Details: "via_upstream", Duration: 1234 * time.Millisecond, FirstByte: 80 * time.Millisecond, Upstream: "10.0.0.1:8000",
		Reported: true, Tokens: Tokens{Input: 300, CacheRead: 100, CacheCreation: 20, Output: 512, Reasoning: 64},
		Events: 41, Bytes: 9000, Complete: true, Untold: true, Unwatched: true,
	}
	for _, c := range []struct {
		version string
		told    []Label
		partly  bool
	}{
		{version: "v1"},
		{version: "v2", told: []Label{{"base_resp.status_code", "0"}, {"task_id", "106916112212032"}, {"title", ""}}},
		{version: "v1.partly", partly: true}, // one flag more, which who doesn't know it passes over
	} {
		want.Told, want.Partly, want.Reported = c.told, c.partly, !c.partly
		text, err := os.ReadFile("testdata/observation." + c.version + ".hex")
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseObservation(data); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s reads as\n%+v, %v\nwant\n%+v", c.version, got, err, want)
		}
		if now := want.AppendBinary(nil); !bytes.Equal(now, data) {
			t.Errorf("%s is written differently now:\n%x", c.version, now)
		}
	}
}

func FuzzParseObservation(f *testing.F) {
	o := Observation{Status: 200, Flags: "-", Upstream: "u:1", Reported: true, Tokens: Tokens{Input: 7}}
	f.Add(o.AppendBinary(nil))
	o.Told = []Label{{"a.b", "c"}}
	f.Add(o.AppendBinary(nil))
	f.Add([]byte{observationVersion})
	f.Add([]byte{observationVersion + 1, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseObservation(data)
		if err != nil {
			return
		}
		if again, err := ParseObservation(o.AppendBinary(nil)); err != nil || !reflect.DeepEqual(again, o) {
			t.Errorf("%+v was read as %+v, %v", o, again, err)
		}
	})
}
