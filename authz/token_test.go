package authz

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tollgate/authz/catalog"
	"tollgate/authz/limit"
	"tollgate/authz/money"
	"tollgate/authz/reason"
)

func anyAdmission(t *rapid.T) *Admission {
	text := rapid.StringN(0, 40, 200)
	when := rapid.Custom(func(t *rapid.T) time.Time {
		return time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "µs")).UTC()
	})
	labels := rapid.Custom(func(t *rapid.T) []Label {
		var l []Label
		for range rapid.IntRange(0, 3).Draw(t, "n") {
			l = append(l, Label{text.Draw(t, "name"), text.Draw(t, "value")})
		}
		return l
	})
	count := rapid.Int64()
	amount := rapid.Custom(func(t *rapid.T) money.Amount {
		return money.New(count.Draw(t, "coefficient"), rapid.IntRange(0, 40).Draw(t, "decimals")).MulInt(rapid.Int64Range(0, 9).Draw(t, "times"))
	})
	a := &Admission{
		ID: text.Draw(t, "id"), Replica: text.Draw(t, "replica"), Workspace: text.Draw(t, "workspace"),
		Key: text.Draw(t, "key"), User: text.Draw(t, "user"), ExternalID: text.Draw(t, "externalId"),
		Labels: labels.Draw(t, "labels"), Tags: labels.Draw(t, "tags"),
		Model: text.Draw(t, "model"), Dialect: text.Draw(t, "dialect"),
		ClientRequestID: text.Draw(t, "client"), ProxyRequestID: text.Draw(t, "proxy"), TraceParent: text.Draw(t, "trace"),
		Stream: rapid.Bool().Draw(t, "stream"), Capped: rapid.Bool().Draw(t, "capped"), RatesVersion: rapid.Uint64().Draw(t, "rates"),
		Start: when.Draw(t, "start"), Deadline: when.Draw(t, "deadline"),
		Reserved:      limit.Grant{At: when.Draw(t, "at"), Tokens: count.Draw(t, "tokens"), Counted: limit.Set(rapid.Uint8().Draw(t, "counted"))},
		InputEstimate: count.Draw(t, "in"), OutputEstimate: count.Draw(t, "out"), PromptBytes: count.Draw(t, "bytes"),
		ModelLimit: text.Draw(t, "pattern"),
		Observed:   rapid.SampledFrom([]reason.Reason{reason.None, reason.KeyMissing, reason.KeyInvalid}).Draw(t, "observed"),

		Path: text.Draw(t, "path"), Choices: count.Draw(t, "choices"), Multiplier: amount.Draw(t, "multiplier"), Held: amount.Draw(t, "held"),
		Billing:  catalog.Billing{ChargeUnsettled: rapid.Bool().Draw(t, "unsettled"), FreeEstimated: rapid.Bool().Draw(t, "estimated"), FreeErrors: rapid.Bool().Draw(t, "errors")},
		Creating: text.Draw(t, "creating"), Counting: text.Draw(t, "counting"), Generation: text.Draw(t, "generation"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "rates") {
		a.Rates = append(a.Rates, Rate{Unit: text.Draw(t, "unit"), Price: amount.Draw(t, "price")})
	}
	if rapid.Bool().Draw(t, "dated") {
		a.RatesFrom = time.UnixMicro(rapid.Int64Range(1, 4e15).Draw(t, "from")).UTC()
	}
	return a
}

func TestAdmissionComesBackAsItWas(t *testing.T) {
	s := sealer(t, 1, 1)
	rapid.Check(t, func(t *rapid.T) {
		a := anyAdmission(t)
		got, err := s.Open(s.Seal(a.AppendBinary(nil)))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, got) {
			t.Fatalf("went in as\n%+v\ncame back as\n%+v", a, got)
		}
	})
}

// sealer makes one with keys 1…n, of which current seals.
func sealer(t testing.TB, current byte, n int) *Sealer {
	t.Helper()
	keys := map[byte][]byte{}
	for i := 1; i <= n; i++ {
		keys[byte(i)] = bytes.Repeat([]byte{byte(i)}, MinSealingKey)
	}
	s, err := NewSealer(current, keys)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestTokenOfAnotherKeyOrWithAnyByteChanged(t *testing.T) {
	s := sealer(t, 1, 1)
	token := s.Seal((&Admission{ID: "a", Key: "k"}).AppendBinary(nil))
	if _, err := s.Open(token); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		changed := bytes.Clone(raw)
		changed[i] ^= 1
		if _, err := s.Open(base64.RawURLEncoding.EncodeToString(changed)); !errors.Is(err, ErrToken) {
			t.Errorf("with byte %d changed: %v", i, err)
		}
	}
	for n := range raw {
		if _, err := s.Open(base64.RawURLEncoding.EncodeToString(raw[:n])); !errors.Is(err, ErrToken) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
	other, err := NewSealer(1, map[byte][]byte{1: bytes.Repeat([]byte{9}, MinSealingKey)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Open(token); !errors.Is(err, ErrToken) {
		t.Errorf("opened with another deployment's key: %v", err)
	}
}

func TestSealingKeyCanBeChangedWhileRequestsAreUnderWay(t *testing.T) {
	before, after := sealer(t, 1, 1), sealer(t, 2, 2)
	token := before.Seal((&Admission{ID: "a"}).AppendBinary(nil))
	if _, err := after.Open(token); err != nil {
		t.Errorf("a token of the key before: %v", err)
	}
	if _, err := before.Open(after.Seal((&Admission{ID: "b"}).AppendBinary(nil))); !errors.Is(err, ErrToken) {
		t.Errorf("a token of a key that isn't known: %v", err)
	}
}

func TestSealerRefusesWeakOrMissingKeys(t *testing.T) {
	if _, err := NewSealer(1, map[byte][]byte{1: make([]byte, MinSealingKey-1)}); err == nil {
		t.Error("a short key was taken")
	}
	if _, err := NewSealer(2, map[byte][]byte{1: make([]byte, MinSealingKey)}); err == nil {
		t.Error("a current key that is missing was taken")
	}
}

// TestFrozenAdmissions reads admissions as earlier versions wrote them. A new
// version adds a sample; none is ever changed.
func TestFrozenAdmissions(t *testing.T) {
	first := Admission{
		ID: "0199f0c4-7a00-7000-8000-000000000001", Replica: "r1", Workspace: "demo", Key: "k1", User: "u1",
		ExternalID: "cust-7", Labels: []Label{{"team", "search"}}, Tags: []Label{{"x-tag", "nightly"}},
		Model: "meta-llama/Llama-3.1-8B-Instruct", Dialect: "podstack", ClientRequestID: "c1", ProxyRequestID: "8c9f1a52-3f6f-4f0e-9a39-0d5b0c3d2e11",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Stream: true, RatesVersion: 3,
		Start: time.UnixMicro(1764000000123456).UTC(), Deadline: time.UnixMicro(1764003720123456).UTC(),
		Reserved:      limit.Grant{At: time.UnixMicro(1764000000123456).UTC(), Tokens: 812, Counted: 5},
		InputEstimate: 300, OutputEstimate: 512, PromptBytes: 1200, ModelLimit: "meta-llama/*",
		Multiplier: money.New(1, 0),
	}
	second := first
	second.Path, second.Choices = "POST /inference/v1/chat/completions", 2
	second.Rates = []Rate{
		{Unit: "input", Price: money.New(15, 2)}, {Unit: "cacheReadInput", Price: money.New(75, 3)}, {Unit: "output", Price: money.New(6, 1)},
	}
	second.RatesFrom, second.Multiplier = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), money.New(4, 1)
	second.Billing = catalog.Billing{ChargeUnsettled: true, FreeErrors: true}
	second.Held, second.Creating, second.Counting, second.Generation = money.New(352, 6), "voice-1", "minds", "0199f0c4-7a00-7000-8000-0000000000aa"
	for version, want := range map[int]*Admission{1: &first, admissionVersion: &second} {
		text, err := os.ReadFile(fmt.Sprintf("testdata/admission.v%d.hex", version))
		if err != nil {
			t.Fatal(err)
		}
		data, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseAdmission(data)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(want, got) {
			t.Errorf("version %d reads as\n%+v\nwant\n%+v", version, got, want)
		}
		if now := want.AppendBinary(nil); version == admissionVersion && !bytes.Equal(now, data) {
			t.Errorf("version %d is written differently now:\n%x", version, now)
		}
	}
}

func FuzzParseAdmission(f *testing.F) {
	f.Add((&Admission{ID: "a", Labels: []Label{{"n", "v"}}}).AppendBinary(nil))
	f.Add([]byte{admissionVersion})
	f.Add([]byte{admissionVersion + 1, 0})
	f.Add((&Admission{Rates: []Rate{{Unit: "input", Price: money.New(15, 2)}}, Held: money.New(-1, 30)}).AppendBinary(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := ParseAdmission(data)
		if err != nil {
			return
		}
		again, err := ParseAdmission(a.AppendBinary(nil))
		if err != nil || !reflect.DeepEqual(a, again) {
			t.Errorf("%+v was read as %+v, %v", a, again, err)
		}
	})
}
