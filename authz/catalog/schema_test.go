package catalog

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// node is the part of a JSON Schema that is used here.
type node struct {
	Ref                  string           `json:"$ref"`
	Type                 string           `json:"type"`
	Properties           map[string]*node `json:"properties"`
	AdditionalProperties json.RawMessage  `json:"additionalProperties"`
	Items                *node            `json:"items"`
	AnyOf                []*node          `json:"anyOf"`
	Required             []string         `json:"required"`
	MaxItems             int              `json:"maxItems"`
	Defs                 map[string]*node `json:"$defs"`
}

func readSchema(t *testing.T) *node {
	t.Helper()
	var root node
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	return &root
}

// TestSchema: the schema and the Go types have the same fields, of the same
// types, and every field is in docs/catalog.md.
func TestSchema(t *testing.T) {
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	root := readSchema(t)
	var compare func(path string, typ reflect.Type, n *node)
	compare = func(path string, typ reflect.Type, n *node) {
		for n.Ref != "" || n.AnyOf != nil {
			if n.AnyOf != nil {
				n = n.AnyOf[len(n.AnyOf)-1] // the others are short forms
				continue
			}
			n = root.Defs[strings.TrimPrefix(n.Ref, "#/$defs/")]
		}
		switch typ.Kind() {
		case reflect.Pointer:
			compare(path, typ.Elem(), n)
		case reflect.Struct:
			names := fieldNames(typ)
			if typ == reflect.TypeFor[LimitsSpec]() {
				names = append(names, "requestsPerMinute", "tokensPerMinute", "concurrentRequests") // the flat form
			}
			var have []string
			for name := range n.Properties {
				have = append(have, name)
			}
			slices.Sort(names)
			slices.Sort(have)
			if !slices.Equal(names, have) || string(n.AdditionalProperties) != "false" {
				t.Errorf("%s: the type has %v, the schema %v and others: %s", path, names, have, n.AdditionalProperties)
			}
			for i, name := range fieldNames(typ) {
				if !strings.Contains(string(doc), "`"+name+"`") {
					t.Errorf("%s.%s is not in docs/catalog.md", path, name)
				}
				if p := n.Properties[name]; p != nil {
					compare(path+"."+name, typ.Field(i).Type, p)
				}
			}
		case reflect.Slice:
			if n.Type != "array" || n.Items == nil {
				t.Errorf("%s: a list, in the schema %q", path, n.Type)
				return
			}
			compare(path+"[]", typ.Elem(), n.Items)
		case reflect.Map:
			if n.Type != "object" {
				t.Errorf("%s: a map, in the schema %q", path, n.Type)
			} else if string(n.AdditionalProperties) != "false" { // else: a closed list of names
				var item node
				if err := json.Unmarshal(n.AdditionalProperties, &item); err != nil {
					t.Fatal(err)
				}
				compare(path+"{}", typ.Elem(), &item)
			}
		default:
			kind := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int64: "integer"}[typ.Kind()]
			if n.Type != "" && n.Type != kind || kind == "" { // no type: an enumeration
				t.Errorf("%s: %v, in the schema %q", path, typ, n.Type)
			}
		}
	}
	compare("", reflect.TypeFor[Catalog](), root)
}

// TestSchemaUnits: the schema knows the units that Parse knows, and the
// document explains them.
func TestSchemaUnits(t *testing.T) {
	root := readSchema(t)
	rates := root.Defs["rates"].Properties
	if len(rates) != len(Units())+1 || rates[rateFrom] == nil {
		t.Errorf("the schema has %d units and %s, Units %d", len(rates), rateFrom, len(Units()))
	}
	doc, err := os.ReadFile("../../docs/catalog.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range Units() {
		if rates[u] == nil || !strings.Contains(string(doc), "`"+u+"`") {
			t.Errorf("%s is missing in the schema or in docs/catalog.md", u)
		}
	}
}

// TestSchemaBounds: numbers and patterns that stand in both places agree.
func TestSchemaBounds(t *testing.T) {
	root := readSchema(t)
	for name, want := range map[string]int{"workspaces": maxWorkspaces, "users": maxUsers, "plans": maxPlans, "models": maxModels} {
		if got := root.Properties[name].MaxItems; got != want {
			t.Errorf("%s: at most %d, in the schema %d", name, want, got)
		}
	}
	var defs struct {
		Defs map[string]struct {
			Pattern string `json:"pattern"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema(), &defs); err != nil {
		t.Fatal(err)
	}
	texts := []string{"", "a", "A", "a-b", "a b", "a/b", "a/*", "*", "a*", "/a", "-", "0.15", "1.", ".5", "-1", "1e3", "u@h|x=", "é", strings.Repeat("a", 64)}
	for name, check := range map[string]func(string) error{
		"slug": checkSlug, "userId": checkUserID, "modelId": checkModelID, "modelPattern": checkPattern, "decimal": checkDecimal,
	} {
		pattern := regexp.MustCompile(defs.Defs[name].Pattern)
		for _, text := range texts {
			if pattern.MatchString(text) != (check(text) == nil) {
				t.Errorf("%s: the schema and Parse differ about %q", name, text)
			}
		}
	}
}
