package manage

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// document is the OpenAPI description, which grows as routes are added. The
// schemas come from the Go types that the wrapper decodes into.
type document struct{ huma.OpenAPI }

const schemas = "#/components/schemas/"

func newDocument(version string) *document {
	return &document{huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:       "Tollgate management API",
			Description: "Keys, models, the catalog and stored usage events. Errors have one form; fields and parameters that are not listed are refused.",
			Version:     version,
		},
		Components: &huma.Components{
			Schemas: huma.NewMapRegistry(schemas, huma.DefaultSchemaNamer),
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"key": {Type: "http", Scheme: "bearer", Description: "The operator's key, or a key with the action manage"},
			},
		},
	}}
}

// describe adds an endpoint to the document.
func describe[In, Out any](d *document, rt route) {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, Summary: rt.summary,
		OperationID: operationID(rt),
		Responses: map[string]*huma.Response{
			"default": {Description: "Refused", Content: d.content(reflect.TypeFor[Error](), "application/json")},
		},
	}
	if rt.who != anybody {
		op.Security = []map[string][]string{{"key": {}}}
	}
	for segment := range strings.SplitSeq(rt.path, "/") {
		if name, ok := strings.CutPrefix(segment, "{"); ok {
			op.Parameters = append(op.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true,
				Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	add := func(in string, p param) {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: in, Description: p.doc,
			Schema: &huma.Schema{Type: huma.TypeString}})
	}
	for _, p := range rt.query {
		add("query", p)
	}
	if rt.changes() && !knows(rt.query, waitParam.name) {
		add("query", waitParam)
	}
	if rt.matches {
		add("header", param{ifMatch, "An ETag that was answered before: only if nothing has changed since, else 412"})
	}
	if rt.once {
		add("header", param{idempotencyKey, "A word of yours for this request, 1 to 255 characters. A second request with it makes nothing and answers 409 with the id of what the first one made"})
	}
	switch in := reflect.TypeFor[In](); in {
	case reflect.TypeFor[none]():
	case reflect.TypeFor[raw]():
		op.RequestBody = &huma.RequestBody{Required: true, Content: d.content(in, "application/yaml")}
	default:
		op.RequestBody = &huma.RequestBody{Content: d.content(in, "application/json")}
		op.RequestBody.Content["application/json"].Example = rt.example
	}
	success := &huma.Response{Description: http.StatusText(rt.status)}
	if out := reflect.TypeFor[Out](); out != reflect.TypeFor[none]() {
		media, _, _ := strings.Cut(rt.media, ";")
		if media == "" {
			media = "application/json"
		}
		success.Content = d.content(out, media)
	}
	op.Responses[strconv.Itoa(rt.status)] = success
	d.AddOperation(op)
}

func (d *document) content(t reflect.Type, media string) map[string]*huma.MediaType {
	if t == reflect.TypeFor[raw]() || t == reflect.TypeFor[stream]() {
		return map[string]*huma.MediaType{media: {}}
	}
	schema := d.Components.Schemas.Schema(t, true, "")
	d.allowNulls(t, schema)
	return map[string]*huma.MediaType{media: {Schema: schema}}
}

// allowNulls says in a schema what huma doesn't see: that a pointer to what has a
// schema of its own, to one of some words, and a map, may be null, and that what an
// embedded pointer has need not be there. It goes through all that t is made of.
func (d *document) allowNulls(t reflect.Type, schema *huma.Schema) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		if t.Kind() == reflect.Slice {
			schema = schema.Items
		}
		t = t.Elem()
	}
	if schema == nil {
		return
	}
	if schema.Ref != "" {
		schema = d.Components.Schemas.SchemaFromRef(schema.Ref)
	}
	if t.Kind() != reflect.Struct || schema == nil || schema.Properties == nil {
		return
	}
	for f := range t.Fields() {
		if f.Anonymous {
			embedded := f.Type
			if embedded.Kind() == reflect.Pointer {
				embedded = embedded.Elem()
				schema.Required = slices.DeleteFunc(schema.Required, func(name string) bool { return hasMember(embedded, name) })
			}
			d.allowNulls(embedded, schema)
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		property := schema.Properties[name]
		if property == nil {
			continue
		}
		d.allowNulls(f.Type, property)
		switch k := f.Type.Kind(); {
		case k != reflect.Pointer && k != reflect.Map || len(property.OneOf) > 0:
		case property.Ref != "":
			schema.Properties[name] = &huma.Schema{
				OneOf: []*huma.Schema{{Ref: property.Ref}, {Type: "null"}}, Description: property.Description,
			}
		default:
			property.Nullable = true
			if len(property.Enum) > 0 && !slices.Contains(property.Enum, nil) {
				property.Enum = append(property.Enum, nil)
			}
		}
	}
}

// hasMember reports whether the JSON of a struct has a member of that name.
func hasMember(t reflect.Type, name string) bool {
	for f := range t.Fields() {
		if is, _, _ := strings.Cut(f.Tag.Get("json"), ","); is == name {
			return true
		}
	}
	return false
}

// operationID is such as "get-api-keys-id".
func operationID(rt route) string {
	path := strings.TrimPrefix(strings.Trim(rt.path, "/"), "api/v1/")
	return strings.ToLower(rt.method) + "-" + strings.NewReplacer("/", "-", "{", "", "}", "", ".", "-").Replace(path)
}

// serveDocument adds the endpoint of the document itself. It comes after all
// others.
func (a *api) serveDocument() error {
	var text []byte
	handle(a, route{
		method: http.MethodGet, path: "/openapi.json", who: anybody, status: http.StatusOK,
		summary: "This document", media: "application/openapi+json",
	}, func(context.Context, *call, none) (raw, error) { return text, nil })
	var err error
	text, err = json.Marshal(&a.doc.OpenAPI)
	return err
}
