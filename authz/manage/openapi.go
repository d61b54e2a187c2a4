package manage

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
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
	for _, p := range rt.query {
		op.Parameters = append(op.Parameters, &huma.Param{Name: p.name, In: "query", Description: p.doc,
			Schema: &huma.Schema{Type: huma.TypeString}})
	}
	switch in := reflect.TypeFor[In](); in {
	case reflect.TypeFor[none]():
	case reflect.TypeFor[raw]():
		op.RequestBody = &huma.RequestBody{Required: true, Content: d.content(in, "application/yaml")}
	default:
		op.RequestBody = &huma.RequestBody{Content: d.content(in, "application/json")}
	}
	success := &huma.Response{Description: http.StatusText(rt.status)}
	if out := reflect.TypeFor[Out](); out != reflect.TypeFor[none]() {
		media := rt.media
		if media == "" {
			media = "application/json"
		}
		success.Content = d.content(out, media)
	}
	op.Responses[strconv.Itoa(rt.status)] = success
	d.AddOperation(op)
}

func (d *document) content(t reflect.Type, media string) map[string]*huma.MediaType {
	if t == reflect.TypeFor[raw]() {
		return map[string]*huma.MediaType{media: {}}
	}
	return map[string]*huma.MediaType{media: {Schema: d.Components.Schemas.Schema(t, true, "")}}
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
