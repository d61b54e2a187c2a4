package events

import (
	"encoding/json"
	"os"
	"testing"
)

func frozen(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestHeartbeatFrozen(t *testing.T) {
	got, err := decodeHeartbeat(frozen(t, "heartbeat.v1.json"))
	want := pulse{
		Version: 1, Nonce: "4KXEPMQZ2DCAWRUYZJOHQUBS7A", Incarnation: "6f1c0a5e-93a4-4b7e-8d4c-0d9f6a2f2b11",
		Epoch: "ZP3IUCS5DQJ6CLPXH7Y2QX4L5M", Applied: 4711, BoundMs: 15000, Program: "0.4.0",
		AfterMs: 9000, Left: true,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A replica of the version before doesn't say of which deployment it is.
func TestHeartbeatFrozenNamed(t *testing.T) {
	got, err := decodeHeartbeat(frozen(t, "heartbeat.v1.named.json"))
	if err != nil || got.Deployment != "prod" || got.Applied != 4711 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestClaimFrozen(t *testing.T) {
	got, err := decodeClaim(frozen(t, "applied.v1.json"))
	want := claim{
		Version: 1, Incarnation: "6f1c0a5e-93a4-4b7e-8d4c-0d9f6a2f2b11",
		Epoch: "ZP3IUCS5DQJ6CLPXH7Y2QX4L5M", Applied: 4711, Replica: "a",
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestHeartbeatRefused(t *testing.T) {
	good := string(frozen(t, "heartbeat.v1.json"))
	var fields map[string]any
	if err := json.Unmarshal([]byte(good), &fields); err != nil {
		t.Fatal(err)
	}
	for field, values := range map[string][]any{
		"v":           {0, 2, "1", nil},
		"nonce":       {"", 1},
		"incarnation": {"", nil},
		"epoch":       {""},
		"boundMs":     {0, -1, 24*60*60*1000 + 1, 1.5},
		"afterMs":     {-1, 24*60*60*1000 + 1},
		"applied":     {-1},
	} {
		for _, value := range values {
			was := fields[field]
			fields[field] = value
			text, err := json.Marshal(fields)
			if err != nil {
				t.Fatal(err)
			}
			if value == nil {
				delete(fields, field)
				text, _ = json.Marshal(fields)
			}
			if got, err := decodeHeartbeat(text); err == nil {
				t.Errorf("with %s %v it is believed: %+v", field, value, got)
			}
			fields[field] = was
		}
	}
	if _, err := decodeHeartbeat([]byte(good)); err != nil {
		t.Errorf("unchanged: %v", err)
	}
}

// What a stranger writes under a replica's name must not break a replica, nor be
// believed where it is nonsense.
func FuzzHeartbeat(f *testing.F) {
	for _, file := range []string{"heartbeat.v1.json", "applied.v1.json"} {
		text, err := os.ReadFile("testdata/" + file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"v":1,"nonce":"n","incarnation":"i","epoch":"e","boundMs":9223372036854775807}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if h, err := decodeHeartbeat(text); err == nil {
			if h.bound() <= 0 || h.bound() > longestBound || h.Incarnation == "" {
				t.Errorf("believed: %+v", h)
			}
			again, err := json.Marshal(h)
			if back, err2 := decodeHeartbeat(again); err != nil || err2 != nil || back != h {
				t.Errorf("%+v comes back as %+v, %v, %v", h, back, err, err2)
			}
		}
		if c, err := decodeClaim(text); err == nil && c.Version != claimVersion {
			t.Errorf("believed: %+v", c)
		}
	})
}
