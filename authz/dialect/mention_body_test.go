package dialect

import (
	"testing"

	"tollgate/authz/reason"
)

// What names an object in its path or query has no body, where it could name another.
func TestMentionsWithoutBody(t *testing.T) {
	for _, path := range []struct {
		d              *Dialect
		method, target string
	}{
		{&minimax, "GET", "/v1/query/video_generation?task_id=1"},
		{&minds, "GET", "/api/v1/minds/1"},
		{&minds, "DELETE", "/api/v1/minds/1"},
	} {
		for what, tt := range map[string]struct {
			req  Request
			want reason.Reason
		}{
			"none":                  {Request{}, reason.None},
			"a length of 0":         {Request{Headers: []Header{{Name: "content-length", Value: " 0 "}}}, reason.None},
			"a body":                {Request{Body: []byte(`{"task_id":2}`)}, reason.BodyInvalid},
			"a body that was cut":   {Request{BodyCut: true}, reason.BodyInvalid},
			"a length":              {Request{Headers: []Header{{Name: "content-length", Value: "13"}}}, reason.BodyInvalid},
			"a length, seen first":  {Request{Headers: []Header{{Name: "content-length", Value: "13"}}, HeadersOnly: true}, reason.BodyInvalid},
			"no length yet a body":  {Request{Headers: []Header{{Name: "transfer-encoding", Value: "chunked"}}}, reason.BodyInvalid},
			"another content-type ": {Request{Headers: []Header{{Name: "content-type", Value: "application/json"}}}, reason.None},
		} {
			var c Call
			at, _ := SplitPath(path.target)
			if !path.d.Route(&c, path.method, at) {
				t.Fatal(path)
			}
			tt.req.Method, tt.req.Path = path.method, path.target
			if r, detail, _ := c.Read(&tt.req); r != tt.want {
				t.Errorf("%s %s with %s: %v %s", path.method, path.target, what, r, detail)
			}
		}
	}
	// Others may have one: it names nothing.
	var c Call
	minds.Route(&c, "GET", "/api/v1/minds")
	if r, _, _ := c.Read(&Request{Method: "GET", Path: "/api/v1/minds", Body: []byte("{}")}); r != reason.None {
		t.Error(r)
	}
}
