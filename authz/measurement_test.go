package authz

import (
	"testing"
	"time"

	"tollgate/authz/dialect"
)

// TestMeasurementWithoutTokens: an answer that has no tokens leaves nothing to
// estimate, unless it ended early or doesn't tell what only it can.
func TestMeasurementWithoutTokens(t *testing.T) {
	t.Parallel()
	ok, characters, length := Label{"base_resp.status_code", "0"}, Label{"extra_info.usage_characters", "26"}, Label{"extra_info.audio_length", "5746"}
	whole := Observation{Status: 200, Complete: true, Duration: time.Second}
	told := func(labels ...Label) Observation {
		o := whole
		o.Told = labels
		return o
	}
	for _, c := range []struct {
		name, dialect, method, path string
		seen                        Observation
		want                        Measurement
	}{
		{"what the answer states", "minimax", "POST", "/v1/t2a_v2", told(ok, characters, length), Reported},
		{"what it doesn't state", "minimax", "POST", "/v1/t2a_v2", told(ok, length), Estimated},
		{"images that were asked for", "minimax", "POST", "/v1/image_generation", told(ok), Reported},
		{"a task that is asked for", "minimax", "GET", "/v1/query/video_generation", told(ok), Reported},
		{"a request and its time", "baseten", "POST", "/models/m/predict", whole, Reported},
		{"tokens that are counted and not used", "anthropic", "POST", "/v1/messages/count_tokens", whole, Reported},
		{"an answer in the middle of which the caller left", "minimax", "POST", "/v1/image_generation", Observation{Status: 200, Flags: "DC"}, Estimated},
		{"an answer that nobody watched", "baseten", "POST", "/models/m/predict", Observation{Status: 200, Unwatched: true}, Estimated},
		{"an error", "baseten", "POST", "/models/m/predict", Observation{Status: 500, Complete: true}, Estimated},
		{"an answer that calls itself an error", "minimax", "POST", "/v1/image_generation", told(Label{ok.Name, "1002"}), Estimated},
		{"a path with tokens that states none", "minibase", "POST", "/api.php", whole, Estimated},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d, _ := dialect.Lookup(c.dialect)
			p, _, found := d.Match(c.method, c.path)
			if !found {
				t.Fatal("there is no such path")
			}
			a := priced(t, p.Name(), "1", "character", "9", "image", "1", "second", "1")
			a.Dialect = c.dialect
			if p.Free {
				a.InputEstimate, a.OutputEstimate = 0, 0 // as a check reserves
			}
			c.seen.Upstream = "u:1"
			u := Measure(a, c.seen, new(Estimator))
			if u.Measurement != c.want {
				t.Errorf("%s, want %s", u.Measurement, c.want)
			}
			if c.want == Reported && (u.Tokens != Tokens{} || !u.EstimatedCost.IsZero()) {
				t.Errorf("something was estimated: %+v", u)
			}
		})
	}
}
