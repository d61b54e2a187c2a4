package catalog

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"tollgate/authz/key"
)

// entry is one name: value of a mapping.
type entry struct {
	name  string
	at    position
	value ast.Node
}

// decode fills a catalog from a text's syntax tree, by the json names of its
// fields. It notes each problem and goes on with the next value.
func (s *source) decode(c *Catalog, root ast.Node) {
	s.value(reflect.ValueOf(c).Elem(), root, "")
}

// value fills v with n.
func (s *source) value(v reflect.Value, n ast.Node, path string) {
	s.at[path] = start(n)
	if isNull(n) && path != "" {
		s.nothing(v, n, path)
		return
	}
	switch target := v.Addr().Interface().(type) {
	case *LimitsSpec:
		s.limits(target, n, path)
		return
	case *CredentialSpec:
		if text, ok := text(n); ok {
			target.From = text
			s.at[path+".from"] = start(n)
			return
		}
	case *RatesSpec:
		if _, list := n.(*ast.SequenceNode); !list {
			*target = make(RatesSpec, 1)
			s.value(reflect.ValueOf(*target).Index(0), n, path)
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		s.value(v.Elem(), n, path)
	case reflect.Struct:
		s.structure(v, n, path)
	case reflect.Slice:
		s.list(v, n, path)
	case reflect.Map:
		s.mapping(v, n, path)
	case reflect.String:
		if text, ok := text(n); ok {
			v.SetString(text)
		} else {
			s.mismatch(n, path, "a string")
		}
	case reflect.Bool:
		if b, ok := n.(*ast.BoolNode); ok {
			v.SetBool(b.Value)
		} else {
			s.mismatch(n, path, "true or false")
		}
	case reflect.Int64:
		if i, ok := integer(n); ok {
			v.SetInt(i)
		} else {
			s.mismatch(n, path, "a whole number such as 60")
		}
	default:
		panic("catalog: a field of type " + v.Type().String()) // TestSchema reaches every field
	}
}

// nothing notes a field without a value. It is not taken as left out: what lost its
// value, such as a list whose items were made comments, mostly bounded something.
func (s *source) nothing(v reflect.Value, n ast.Node, path string) {
	typ := v.Type()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := "a value"
	switch typ.Kind() {
	case reflect.Slice:
		want = "a list"
	case reflect.Struct, reflect.Map:
		want = "a mapping"
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Int64:
		want = "a whole number such as 60"
	default: // none
	}
	s.mismatch(n, path, want)
}

func (s *source) structure(v reflect.Value, n ast.Node, path string) {
	entries, ok := s.entries(n, path, "fields (name: value)")
	if !ok {
		return
	}
	names := fieldNames(v.Type())
	for _, e := range entries {
		i := slices.Index(names, e.name)
		if i < 0 {
			s.unknownField(e, path, names)
			continue
		}
		s.value(v.Field(i), e.value, join(path, e.name))
	}
}

// fieldNames lists the json names of a struct's fields, in their order.
func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	return names
}

func (s *source) unknownField(e entry, path string, names []string) {
	s.broken[path] = true
	advice := "it may be " + strings.Join(names, ", ")
	if name := closest(e.name, names); name != "" {
		advice = fmt.Sprintf("did you mean %q?", name)
	}
	if strings.Contains(path, ".credential") {
		s.problemf(e.at, path, showNone, "there is an unknown field; %s", advice) // it may be the secret
		return
	}
	// The value may be a secret in a field that doesn't exist.
	s.problemf(e.at, path, showName, "unknown field %s; %s", quote(e.name), advice)
}

func (s *source) list(v reflect.Value, n ast.Node, path string) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		s.mismatch(n, path, "a list")
		return
	}
	list := reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values))
	for i, item := range seq.Values {
		s.value(list.Index(i), item, fmt.Sprintf("%s[%d]", path, i))
	}
	v.Set(list)
}

func (s *source) mapping(v reflect.Value, n ast.Node, path string) {
	entries, ok := s.entries(n, path, "names with values (name: value)")
	if !ok {
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(entries))
	for _, e := range entries {
		item := reflect.New(v.Type().Elem()).Elem()
		s.value(item, e.value, member(path, e.name))
		m.SetMapIndex(reflect.ValueOf(e.name), item)
	}
	v.Set(m)
}

// limits reads a plan's limits, which may be written flat.
func (s *source) limits(l *LimitsSpec, n ast.Node, path string) {
	entries, ok := s.entries(n, path, "limits (name: value)")
	if !ok {
		return
	}
	nested, flat := fieldNames(reflect.TypeFor[LimitsSpec]()), fieldNames(reflect.TypeFor[key.Limits]())
	var scopes, kinds int
	for _, e := range entries {
		if i := slices.Index(nested, e.name); i >= 0 {
			scopes++
			s.value(reflect.ValueOf(l).Elem().Field(i), e.value, join(path, e.name))
		} else if i := slices.Index(flat, e.name); i >= 0 {
			kinds++
			s.value(reflect.ValueOf(&l.PerKey).Elem().Field(i), e.value, join(path, e.name))
		} else {
			s.unknownField(e, path, slices.Concat(nested, flat))
		}
	}
	if scopes > 0 && kinds > 0 {
		s.unreadablef(start(n), path, showLine, "limits are either flat, which means per key, or under perKey, perUser, perWorkspace and perModel, not both")
	}
}

// entries lists what a mapping has, each name once. Nothing at all, which only a whole
// text can be, counts as an empty mapping.
func (s *source) entries(n ast.Node, path, want string) ([]entry, bool) {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	case *ast.NullNode:
		return nil, true
	default:
		s.mismatch(n, path, want)
		return nil, false
	}
	entries := make([]entry, 0, len(values))
	first := make(map[string]int, len(values))
	for _, v := range values {
		e := entry{name: v.Key.GetToken().Value, at: start(v.Key), value: v.Value}
		if line, ok := first[e.name]; ok {
			s.problemf(e.at, path, showName, "%s stands twice, also on line %d: keep one", quote(e.name), line)
			continue
		}
		first[e.name] = e.at.line
		entries = append(entries, e)
	}
	return entries, true
}

// mismatch notes a value of the wrong type, and what is there unless it may be
// a secret.
func (s *source) mismatch(n ast.Node, path, want string) {
	if strings.Contains(path, ".credential") {
		s.unreadablef(start(n), path, showNone, "want %s", want)
		return
	}
	var found, advice string
	switch n := n.(type) {
	case *ast.NullNode:
		found = "nothing"
		advice = ": write one or leave the field out"
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		found = cut(n.GetToken().Value)
		if want == "a string" {
			advice = fmt.Sprintf(": put it in quotes, %q", found)
		}
	case *ast.SequenceNode:
		found = "a list"
	case *ast.MappingNode, *ast.MappingValueNode:
		found = "a mapping"
	default:
		found = "a string"
		if _, err := strconv.ParseInt(n.GetToken().Value, 10, 64); err == nil {
			advice = ": take the quotes away"
		}
	}
	s.unreadablef(start(n), path, showLine, "want %s, not %s%s", want, found, advice)
}

func isNull(n ast.Node) bool {
	_, ok := n.(*ast.NullNode)
	return ok
}

func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// integer reads a plain decimal: no underscores, other bases or leading zeros,
// which readers of YAML take differently.
func integer(n ast.Node) (int64, bool) {
	i, ok := n.(*ast.IntegerNode)
	if !ok {
		return 0, false
	}
	literal := i.GetToken().Value
	value, err := strconv.ParseInt(literal, 10, 64)
	return value, err == nil && strconv.FormatInt(value, 10) == literal
}

// join is the path of a field.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// member is the path of what a map has under a name.
func member(path, name string) string {
	if resourcePattern.MatchString(name) {
		return join(path, name)
	}
	return path + "[" + quote(name) + "]"
}

// quote is a name for an error, cut if it is long.
func quote(name string) string { return strconv.Quote(cut(name)) }

func cut(name string) string {
	if len(name) > maxLabelName {
		return name[:maxLabelName] + "…"
	}
	return name
}
