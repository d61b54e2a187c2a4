package relay

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"tollgate/authz"
)

var update = flag.Bool("update", false, "write testdata anew; never for a version that was released")

var (
	sampleSettle = []settlement{
		{authz.Observation{Status: 200, Flags: "-", Upstream: "10.0.0.1:80", Duration: time.Second, Reported: true, Tokens: authz.Tokens{Input: 7, Output: 3}}, "token-one"},
		{authz.Observation{Untold: true}, "token-two"},
	}
	sampleAdopt   = handover{"r1", "i1", []string{"token-one", "token-two"}}
	sampleAnswers = []answer{answerRecorded, answerAgain, answerRefused}
)

// What replicas of different versions say to each other is frozen; see
// docs/design/formats.md.
func TestFrozenWire(t *testing.T) {
	for path, c := range map[string]struct {
		now  []byte
		want any
		read func([]byte) (any, error)
	}{
		"testdata/settle.v1.hex":  {encodeSettle(sampleSettle), sampleSettle, func(b []byte) (any, error) { return decodeSettle(b) }},
		"testdata/adopt.v1.hex":   {encodeAdopt(sampleAdopt), sampleAdopt, func(b []byte) (any, error) { return decodeAdopt(b) }},
		"testdata/answers.v1.hex": {encodeAnswers(sampleAnswers), sampleAnswers, func(b []byte) (any, error) { return decodeAnswers(b, 3) }},
	} {
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(c.now)+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.read(data); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s reads as %+v, %v", path, got, err)
		}
		if !bytes.Equal(c.now, data) {
			t.Errorf("%s is written differently now", path)
		}
		for n := range data {
			if _, err := c.read(data[:n]); err == nil {
				t.Errorf("%s is read, cut to %d bytes", path, n)
			}
		}
		if _, err := c.read(append([]byte{wireVersion + 1}, data[1:]...)); err == nil || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%s of a newer version: %v", path, err)
		}
		if _, err := c.read(append(bytes.Clone(data), 0)); err == nil {
			t.Errorf("%s is read with a byte too many", path)
		}
	}
	if _, err := decodeAnswers(encodeAnswers(sampleAnswers), 4); err == nil {
		t.Error("three answers were taken for four")
	}
}

func FuzzWire(f *testing.F) {
	f.Add(encodeSettle(sampleSettle))
	f.Add(encodeAdopt(sampleAdopt))
	f.Add(encodeAnswers(sampleAnswers))
	f.Add([]byte{wireVersion, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, data []byte) {
		if all, err := decodeSettle(data); err == nil {
			if again, err := decodeSettle(encodeSettle(all)); err != nil || !reflect.DeepEqual(all, again) {
				t.Errorf("%+v was read as %+v, %v", all, again, err)
			}
		}
		if h, err := decodeAdopt(data); err == nil {
			if again, err := decodeAdopt(encodeAdopt(h)); err != nil || !reflect.DeepEqual(h, again) {
				t.Errorf("%+v was read as %+v, %v", h, again, err)
			}
		}
		for want := range 4 {
			if all, err := decodeAnswers(data, want); err == nil && len(all) != want {
				t.Errorf("%d answers for %d", len(all), want)
			}
		}
	})
}
