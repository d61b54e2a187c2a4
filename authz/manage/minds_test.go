package manage_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"tollgate/authz/manage/managetest"
)

// TestMinds goes through the whole of what Minds documents, byte for byte.
func TestMinds(t *testing.T) {
	s, _, first := serveGateway(t)
	if r := s.must(200, "GET", "/api/v1/auth/me", first.Key, ""); r.body != `{"id":"max"}` {
		t.Errorf("me: %s", r.body)
	}
	s.must(204, "DELETE", "/api/v1/api-keys/"+s.create(first.Key, "").ID, first.Key, "")
	for _, c := range []struct{ body, name string }{
		{`{"name":"prod"}`, `"prod"`}, {``, `null`}, {`{}`, `null`}, {`{"name":"  "}`, `null`}, {`{"name":" a b "}`, `"a b"`},
		{`{"name":"` + strings.Repeat("ö", 100) + `"}`, `"` + strings.Repeat("ö", 100) + `"`},
	} {
		r := s.must(201, "POST", "/api/v1/api-keys", first.Key, c.body)
		var m made
		if err := json.Unmarshal([]byte(r.body), &m); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`{"id":%q,"name":%s,"key":%q,"createdAt":"2025-12-10T12:00:00.000Z"}`, m.ID, c.name, m.Key); r.body != want {
			t.Errorf("%s made %s, want %s", c.body, r.body, want)
		}
		list := s.must(200, "GET", "/api/v1/api-keys", m.Key, "")
		want := fmt.Sprintf(`{"id":%q,"name":%s,"createdAt":"2025-12-10T12:00:00.000Z","lastUsedAt":"2025-12-10T12:00:00.000Z"}`, m.ID, c.name)
		if !strings.HasPrefix(list.body, `[{"id":`) || !strings.Contains(list.body, want) || strings.Contains(list.body, `"key"`) {
			t.Errorf("listed as %s, want %s in it", list.body, want)
		}
		if r := s.must(204, "DELETE", "/api/v1/api-keys/"+m.ID, first.Key, ""); r.body != "" {
			t.Errorf("a deletion answers %q", r.body)
		}
		s.must(404, "DELETE", "/api/v1/api-keys/"+m.ID, first.Key, "")
		for _, headers := range [][]string{{"Authorization: Bearer " + m.Key}, {"Authorization: Bearer wrong"}, nil} {
			if r := s.must(401, "GET", "/api/v1/auth/me", "", "", headers...); r.body != unauthorized {
				t.Errorf("401 is %s", r.body)
			}
		}
	}
}

// TestMindsHasNothingElse: neither other endpoints, nor other fields, nor the
// operator.
func TestMindsHasNothingElse(t *testing.T) {
	s, _, first := serveGateway(t)
	for _, path := range []string{
		"/api/v1/models", "/api/v1/events", "/api/v1/catalog", "/openapi.json", "/livez", "/api/v1/api-keys/" + first.ID,
		"/api/v1/api-keys/../auth/me", "/api/v1//api-keys", "/api/v1/api-keys/./", "/api/v1/api-keys/%2e%2e/x",
	} {
		s.must(404, "GET", path, first.Key, "")
	}
	s.must(404, "PATCH", "/api/v1/api-keys/"+first.ID, first.Key, `{"name":"x"}`)
	s.must(404, "POST", "/api/v1/api-keys/"+first.ID+"/rotate", first.Key, "")
	s.must(401, "GET", "/api/v1/api-keys", managetest.OperatorKey, "")
	before := s.must(200, "GET", "/api/v1/api-keys", first.Key, "").body
	for body, says := range map[string]string{
		`{"name":"` + strings.Repeat("x", 101) + `"}`: "name: has 101",
		`{"name":5}`:                  "name: must be a string",
		`{"name":{"a":1}}`:            "name: must be a string",
		`{"name":"x","kind":"x"}`:     "kind: there is no such field",
		`{"actions":["wake"]}`:        "actions: there is no such field",
		`{"name":"x"`:                 "not valid JSON",
		`name=x`:                      "must be a JSON object",
		`{"name":"a","name":"b"}`:     "name: stands twice",
		"{\"name\":\"\xc3\x28\"}":     "not valid JSON",
		`["name"]`:                    "must be a JSON object",
		`{"Name":"x"}`:                "Name: there is no such field",
		`{"name":"x"}{"name":"y"}`:    "not valid JSON",
		`{"name":"\ud800"}`:           "not valid JSON",
		`{"` + first.Key + `":"name"`: "does not belong",
	} {
		if r := s.must(400, "POST", "/api/v1/api-keys", first.Key, body); !strings.Contains(r.body, says) {
			t.Errorf("%.60s: %s, want %s", body, r.body, says)
		}
	}
	s.must(413, "POST", "/api/v1/api-keys", first.Key, `{"name":"`+strings.Repeat("x", 10<<20)+`"}`)
	for _, id := range []string{"x", "..%2f" + first.ID, first.ID + "%00", "*", "%3E", strings.ToUpper(first.ID), first.ID + "/", strings.Repeat("a", 4000)} {
		s.must(404, "DELETE", "/api/v1/api-keys/"+id, first.Key, "")
	}
	if after := s.must(200, "GET", "/api/v1/api-keys", first.Key, "").body; after != before {
		t.Errorf("a refused request changed something: %s", after)
	}
}
