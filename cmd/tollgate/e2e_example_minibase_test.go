//go:build linux

package main_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// forged is what a caller may send so as to pass for somebody else, and its key a
// second time. Stand-ins complain about all of it.
func forged(key string) []string {
	return []string{"-H", "x-tollgate-workspace: other", "-H", "X-Tollgate-Role: admin", "-H", "x_tollgate_user: root", "-H", "x-api-key: " + key}
}

// walkExampleMinibase is what the page can't show: expiry, deployments under traffic,
// and forms that two servers would read differently.
func walkExampleMinibase(t *testing.T, w *exampleWalk) {
	const model, cold = "micro_base_t11_1755574721", "small_base_t12_1760000000"
	infer := func(status int, k newKey, model string, args ...string) string {
		t.Helper()
		return w.must(status, "@/api.php", append([]string{
			"-H", "Authorization: Bearer " + k.Key, "--data-urlencode", "action=mt_inference",
			"--data-urlencode", "model_id=" + model, "--data-urlencode", "prompt=Hello",
		}, args...)...)
	}
	k := w.create("--name", "walk")
	infer(200, k, model, forged(k.Key)...)

	// What a PHP script would take for the model is the model, or nothing passes.
	for _, twin := range []string{"model_id=" + cold, "model_id[]=" + cold, "model.id=" + cold, "model id=" + cold, "Action=x", "action=mt_train"} {
		infer(400, k, model, "--data-urlencode", twin)
	}
	infer(401, newKey{}, model)
	if body := w.must(400, "@/api.php?api_key="+k.Key, "-d", "action=mt_inference"); strings.Contains(body, k.Key) {
		t.Error("the refusal repeats the key")
	}

	// Deploying and undeploying act at once.
	for range 3 {
		infer(404, k, cold)
		w.say("model", "deploy", cold)
		for range 5 {
			infer(200, k, cold)
		}
		w.say("model", "undeploy", cold)
	}
	infer(404, k, cold)

	// What has expired is refused.
	short := w.create("--name", "short", "--expires-at", "3s")
	infer(200, short, model)
	within(t, time.Minute, "expired", func() error {
		if status, _ := w.curl("@/api.php", "-H", "Authorization: Bearer "+short.Key, "-d", "action=mt_inference&model_id="+model+"&prompt=Hello"); status != 401 {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	for _, e := range w.eventsOf(k, 16) {
		if e.Data.Dialect != "minibase" || e.Data.Outcome != "completed" || e.Data.Measurement != "estimated" {
			t.Errorf("%+v", e.Data)
		}
	}
}
