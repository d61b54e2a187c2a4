package authz

import (
	"fmt"
	"strings"
	"testing"

	"tollgate/authz/dialect"
	"tollgate/authz/key"
	"tollgate/authz/reason"
)

const servicesCatalog = `
plans: [{id: open}]
workspaces: [{id: demo, plan: open}]
models:
  - {id: micro_base, upstreamModel: "org/micro base", upstreams: [{url: "http://127.0.0.1:9100"}]}
  - {id: abcd1234, upstreamModel: "upstream 7", cluster: truss}
  - {id: asleep, deployed: false}
  - {id: voices, cluster: minimax}
  - {id: speech-02-hd, cluster: speech}
routes: [{dialect: minibase}, {dialect: baseten}, {dialect: minimax, model: voices}, {dialect: openai}]
`

func serviceRequest(method, path, body string, headers ...dialect.Header) *dialect.Request {
	return &dialect.Request{
		Method: method, Path: path, Host: "gw", Body: []byte(body),
		Headers: append([]dialect.Header{{Name: "authorization", Value: "Bearer good"}}, headers...),
	}
}

// TestMinibase: of the form nothing changes but the model's name, which is written as
// a form has it.
func TestMinibase(t *testing.T) {
	a, _ := newAuthorizer(t)
	withCatalog(t, a, servicesCatalog)
	form := dialect.Header{Name: "content-type", Value: "application/x-www-form-urlencoded"}
	const body = "action=mt_inference&model_id=micro_base&prompt=a+b&max_tokens=16"
	var d Decision
	a.Check(t.Context(), start, serviceRequest("POST", "/api.php", body, form), &d)
	if d.Admission == nil || d.Cluster != "model:micro_base" || d.Path != "" || len(d.Edits) != 1 {
		t.Fatalf("%v %+v", d.Reason, d)
	}
	e := d.Edits[0]
	if got := body[:e.Span.Start] + e.Text + body[e.Span.End:]; got != strings.Replace(body, "micro_base", "org%2Fmicro+base", 1) {
		t.Errorf("%s goes on", got)
	}
	if fmt.Sprint(d.RemoveHeaders) != "[authorization x-api-key api-key "+foreign+" cookie]" {
		t.Errorf("removed %v: a cookie named model_id goes on", d.RemoveHeaders)
	}
	if d.Admission.OutputEstimate != 16 || d.Admission.PromptBytes != 3 {
		t.Errorf("%+v", d.Admission)
	}
	for bad, want := range map[string]string{
		"action=mt_inference&model_id=nope":   "model_id: The model `nope`",
		"action=mt_inference&model_id=asleep": "Deploy it first",
		"action=mt_train&model_id=micro_base": "Invalid action",
		"action=mt_inference":                 "model_id: The request names no model",
	} {
		a.Check(t.Context(), start, serviceRequest("POST", "/api.php", bad, form), &d)
		if d.Response == nil || !strings.Contains(string(d.Response.Body), want) || !strings.HasPrefix(string(d.Response.Body), `{"success":false,`) {
			t.Errorf("%s: %+v", bad, d.Response)
		}
	}
}

// TestModelOfAMeasuredPart: where a form tells how long each part is, it goes on telling
// the truth.
func TestModelOfAMeasuredPart(t *testing.T) {
	a, _ := newAuthorizer(t)
	withCatalog(t, a, servicesCatalog)
	const body = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\nContent-Length: 10\r\n\r\nmicro_base\r\n--b--\r\n"
	var d Decision
	a.Check(t.Context(), start, serviceRequest("POST", "/v1/audio/transcriptions", body, dialect.Header{Name: "content-type", Value: "multipart/form-data; boundary=b"}), &d)
	if d.Admission == nil || len(d.Edits) != 2 {
		t.Fatalf("%v %+v", d.Reason, d)
	}
	length, model := d.Edits[0], d.Edits[1]
	got := body[:length.Span.Start] + length.Text + body[length.Span.End:model.Span.Start] + model.Text + body[model.Span.End:]
	if got != strings.NewReplacer("10", "14", "micro_base", "org/micro base").Replace(body) {
		t.Errorf("%s goes on", got)
	}
}

// TestBaseten: the path is all that is read, and all that changes.
func TestBaseten(t *testing.T) {
	a, _ := newAuthorizer(t)
	withCatalog(t, a, servicesCatalog)
	var d Decision
	a.Check(t.Context(), start, serviceRequest("POST", "/models/abcd1234/predict?x=1", "\x00 anything"), &d)
	if d.Admission == nil || d.Cluster != "truss" || d.Path != "/models/upstream%207/predict?x=1" || len(d.Edits) != 0 {
		t.Fatalf("%v %+v", d.Reason, d)
	}
	wake := func(path string, actions ...key.Action) reason.Reason {
		rec := *a.Keys.(keyring)[key.DigestOf("good")]
		rec.Actions = actions
		a.Keys = keyring{key.DigestOf("good"): &rec}
		a.Check(t.Context(), start, serviceRequest("POST", path, ""), &d)
		return d.Reason
	}
	if r := wake("/models/abcd1234/wake", key.Infer); r != reason.ActionDenied {
		t.Errorf("a key without wake: %v", r)
	}
	if r := wake("/models/abcd1234/wake", key.Wake); r != reason.None || d.Path != "/models/upstream%207/wake" {
		t.Errorf("wake: %v %s", r, d.Path)
	}
	if r := wake("/models/asleep/wake", key.Wake); r != reason.ModelNotDeployed {
		t.Errorf("wake of a model that isn't deployed: %v", r)
	}
	if r := wake("/models/abcd1234/predict", key.Wake); r != reason.ActionDenied {
		t.Errorf("predict with a key that only wakes: %v", r)
	}
	if r := wake("/models/abcd1234/sleep", key.Wake); r != reason.RouteUnknown || !strings.HasPrefix(string(d.Response.Body), `{"error":{"message"`) {
		t.Errorf("a path that isn't there: %v %s", r, d.Response.Body)
	}
}

// TestRouteModel: what names no model counts as the route's, which is open to the
// caller like any other.
func TestRouteModel(t *testing.T) {
	a, _ := newAuthorizer(t)
	withCatalog(t, a, servicesCatalog)
	const upload = "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nvoice_clone\r\n--b--\r\n"
	form := dialect.Header{Name: "content-type", Value: "multipart/form-data; boundary=b"}
	var d Decision
	a.Check(t.Context(), start, serviceRequest("POST", "/v1/files/upload", upload, form), &d)
	if d.Admission == nil || d.Admission.Model != "voices" || d.Cluster != "minimax" {
		t.Fatalf("%v %+v", d.Reason, d)
	}
	a.Check(t.Context(), start, serviceRequest("POST", "/v1/t2a_v2", `{"model":"speech-02-hd","text":"x"}`), &d)
	if d.Admission == nil || d.Admission.Model != "speech-02-hd" || d.Cluster != "speech" {
		t.Errorf("a path that names one: %v %+v", d.Reason, d)
	}
	rec := *a.Keys.(keyring)[key.DigestOf("good")]
	rec.Models = []string{"speech-02-hd"}
	a.Keys = keyring{key.DigestOf("good"): &rec}
	a.Check(t.Context(), start, serviceRequest("POST", "/v1/files/upload", upload, form), &d)
	if d.Reason != reason.ModelDenied {
		t.Errorf("a key that doesn't open it: %v", d.Reason)
	}
	withCatalog(t, a, strings.Replace(servicesCatalog, ", model: voices", "", 1))
	a.Check(t.Context(), start, serviceRequest("POST", "/v1/files/upload", upload, form), &d)
	if d.Reason != reason.None || d.Admission.Model != "" || d.Cluster != "" {
		t.Errorf("without one: %v %+v", d.Reason, d)
	}
}
