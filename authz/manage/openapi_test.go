package manage_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// schema is the part of JSON Schema that the document uses.
type schema struct {
	Ref        string             `json:"$ref"`
	Type       any                `json:"type"`
	Format     string             `json:"format"`
	Enum       []any              `json:"enum"`
	Properties map[string]*schema `json:"properties"`
	Required   []string           `json:"required"`
	Additional json.RawMessage    `json:"additionalProperties"`
	Items      *schema            `json:"items"`
	OneOf      []*schema          `json:"oneOf"`
}

type media map[string]struct {
	Schema  *schema         `json:"schema"`
	Example json.RawMessage `json:"example"`
}

type operation struct {
	Parameters []struct {
		Name string `json:"name"`
		In   string `json:"in"`
	} `json:"parameters"`
	Body *struct {
		Content media `json:"content"`
	} `json:"requestBody"`
	Responses map[string]struct {
		Content media `json:"content"`
	} `json:"responses"`
}

func (o *operation) takes(in, name string) bool {
	for _, p := range o.Parameters {
		if p.In == in && p.Name == name {
			return true
		}
	}
	return false
}

// document is the OpenAPI description as a client reads it.
type document struct {
	OpenAPI    string                           `json:"openapi"`
	Paths      map[string]map[string]*operation `json:"paths"`
	Components struct {
		Schemas map[string]*schema `json:"schemas"`
	} `json:"components"`
}

func (s *service) document() *document {
	s.t.Helper()
	d := new(document)
	if err := json.Unmarshal([]byte(s.must(200, "GET", "/openapi.json", "", "").body), d); err != nil {
		s.t.Fatal(err)
	}
	return d
}

// check says where a value is not what a schema says.
func (d *document) check(s *schema, v any, at string) error {
	if s == nil {
		return nil
	}
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return d.check(d.Components.Schemas[name], v, at)
	}
	if len(s.OneOf) > 0 {
		fits := 0
		var last error
		for _, one := range s.OneOf {
			if err := d.check(one, v, at); err != nil {
				last = err
				continue
			}
			fits++
		}
		if fits != 1 {
			return fmt.Errorf("%s: %d of oneOf fit (%w)", at, fits, last)
		}
		return nil
	}
	kind, types := jsonType(v), []any{s.Type}
	if list, ok := s.Type.([]any); ok {
		types = list
	}
	if s.Type != nil && !slices.Contains(types, any(kind)) && (kind != "integer" || !slices.Contains(types, any("number"))) {
		return fmt.Errorf("%s is %s, not %v", at, kind, s.Type)
	}
	if s.Enum != nil && !slices.Contains(s.Enum, v) {
		return fmt.Errorf("%s is %v, not one of %v", at, v, s.Enum)
	}
	switch v := v.(type) {
	case string:
		if s.Format == "date-time" {
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
		}
	case []any:
		for i, item := range v {
			if err := d.check(s.Items, item, at+"["+strconv.Itoa(i)+"]"); err != nil {
				return err
			}
		}
	case map[string]any:
		return d.checkObject(s, v, at)
	}
	return nil
}

func (d *document) checkObject(s *schema, v map[string]any, at string) error {
	for _, name := range s.Required {
		if _, ok := v[name]; !ok {
			return fmt.Errorf("%s has no %s", at, name)
		}
	}
	for name, member := range v {
		property := s.Properties[name]
		if property == nil {
			if string(s.Additional) == "false" {
				return fmt.Errorf("%s has %s, which is not described", at, name)
			}
			_ = json.Unmarshal(s.Additional, &property) // absent, true or a schema
		}
		if err := d.check(property, member, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

func jsonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	default:
		return "object"
	}
}

// checkAnswer compares an answer with what the document says of its operation.
func (d *document) checkAnswer(t *testing.T, what string, o *operation, r reply) {
	t.Helper()
	described, ok := o.Responses[strconv.Itoa(r.status)]
	if !ok {
		if r.status < 300 {
			t.Errorf("%s answers %d, which is not described", what, r.status)
		}
		described = o.Responses["default"]
	}
	of, _, _ := strings.Cut(r.header.Get("Content-Type"), ";")
	content, ok := described.Content[of]
	switch {
	case r.body == "" && len(described.Content) == 0:
	case !ok:
		t.Errorf("%s answers %d with %q, which is not described: %.200s", what, r.status, of, r.body)
	case content.Schema != nil:
		var v any
		if err := json.Unmarshal([]byte(r.body), &v); err != nil {
			t.Errorf("%s: %v", what, err)
		} else if err := d.check(content.Schema, v, what); err != nil {
			t.Errorf("%v in %.600s", err, r.body)
		}
	}
}

// TestDocumentIsTrue calls every operation of the document with what the document
// says of it: paths and parameters exist, the examples of bodies are as their
// schemas say and are taken, and answers, refusals among them, are as described.
func TestDocumentIsTrue(t *testing.T) {
	s := serve(t)
	doc := s.document()
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	called := map[string]int{}
	for path, methods := range doc.Paths {
		for method, o := range methods {
			method = strings.ToUpper(method)
			what := method + " " + path
			// A key of its own for each operation, with two secrets.
			k := s.create(operator, `{"workspace":"demo","user":"ada","actions":["infer","manage"],"labels":{"a":"b"},"expiresAt":"2099-01-01T00:00:00Z","budget":{"period":"day","amount":"1"}}`)
			s.rotate(operator, k.ID, `{"gracePeriod":"1h"}`)
			target := strings.NewReplacer("{id}", k.ID, "{number}", "1").Replace(path)
			query := []string{}
			if o.takes("query", "workspace") {
				query = append(query, "workspace=demo")
			}
			if o.takes("query", "wait") && method != "GET" {
				query = append(query, "wait=0s")
			}
			if o.takes("query", "limit") {
				query = append(query, "limit=1")
			}
			if len(query) > 0 {
				target += "?" + strings.Join(query, "&")
			}
			body, headers := "", []string{}
			if o.Body != nil {
				for of, content := range o.Body.Content {
					body = string(content.Example)
					headers = append(headers, "Content-Type: "+of)
					var v any
					if body != "" && content.Schema != nil {
						if err := json.Unmarshal(content.Example, &v); err != nil {
							t.Errorf("%s: its example: %v", what, err)
						} else if err := doc.check(content.Schema, v, what+": its example"); err != nil {
							t.Error(err)
						}
					}
				}
			}
			if o.takes("header", "Idempotency-Key") {
				headers = append(headers, "Idempotency-Key: "+k.ID)
			}
			doc.checkAnswer(t, what+" by nobody", o, s.do(method, target, "", body, headers...))
			doc.checkAnswer(t, what+" with a wrong parameter", o, s.do(method, path+"?nope=1", operator, body, headers...))
			secret := operator
			if path == "/api/v1/auth/me" {
				secret = k.Key
			}
			r := s.do(method, target, secret, body, headers...)
			doc.checkAnswer(t, what, o, r)
			if method == "GET" { // tenants may be told less
				doc.checkAnswer(t, what+" by an admin", o, s.do(method, target, k.Key, body, headers...))
			}
			called[what] = r.status
		}
	}
	// What belongs to keys works as it is documented.
	for what, want := range map[string]int{
		"GET /api/v1/auth/me": 200, "GET /api/v1/api-keys": 200, "POST /api/v1/api-keys": 201, "GET /api/v1/api-keys/{id}": 200,
		"PATCH /api/v1/api-keys/{id}": 200, "DELETE /api/v1/api-keys/{id}": 204, "POST /api/v1/api-keys/{id}/rotate": 200,
		"DELETE /api/v1/api-keys/{id}/secrets/{number}": 204, "POST /api/v1/api-keys/import": 200,
		"GET /livez": 200, "GET /readyz": 200, "GET /openapi.json": 200, "GET /api/v1/models": 200,
		"GET /api/v1/usage": 200, "GET /api/v1/api-keys/{id}/usage": 200, "GET /metrics": 200,
	} {
		if called[what] != want {
			t.Errorf("%s as it is documented answers %d, want %d", what, called[what], want)
		}
	}
}

// documents reports whether the document has an operation for a request.
func (d *document) documents(method, target string) bool {
	if method == "HEAD" { // comes with GET
		method = "GET"
	}
	parts := strings.Split(target, "/")
	for path, methods := range d.Paths {
		template := strings.Split(path, "/")
		fits := len(template) == len(parts) && methods[strings.ToLower(method)] != nil
		for i := 0; fits && i < len(parts); i++ {
			fits = template[i] == parts[i] || strings.HasPrefix(template[i], "{")
		}
		if fits {
			return true
		}
	}
	return false
}

// TestEveryHandlerIsDocumented: for whatever method of whatever path, there is an
// endpoint if and only if the document says so.
func TestEveryHandlerIsDocumented(t *testing.T) {
	s := serve(t)
	doc := s.document()
	for path := range doc.Paths {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"} {
			target := strings.NewReplacer("{", "", "}", "").Replace(path)
			r := s.do(method, target, "", "")
			if there := r.status != 405; there != doc.documents(method, target) {
				t.Errorf("%s %s answers %d, documented: %t", method, target, r.status, !there)
			}
		}
	}
}
