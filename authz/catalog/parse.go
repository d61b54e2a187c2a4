package catalog

import (
	"bytes"
	"errors"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a text.
const (
	// MaxSize is how many bytes a catalog may have.
	MaxSize = 4 << 20

	maxIndent  = 100 // columns
	maxNesting = 32  // brackets
)

// Parse reads a catalog in YAML or JSON. name is what errors call it. It is
// strict: an unknown field, one that stands twice or has no value, a value of another
// type and a reference to nothing are errors. YAML's anchors, aliases, merge keys, tags,
// complex keys and further documents are not understood. An empty text is an
// empty catalog.
//
// The error is an *Error that lists what is wrong, in words that don't repeat
// what might be a secret.
func Parse(name string, data []byte) (*Catalog, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	s := newSource(name, nil)
	if len(data) > MaxSize {
		s.problemf(position{}, "", showNone, "%s: the catalog is larger than %d MiB", name, MaxSize>>20)
		return nil, s.err()
	}
	s = newSource(name, data)
	if at, bad := utf8Error(data); bad {
		s.problemf(at, "", showNone, "not UTF-8: save the file as UTF-8")
		return nil, s.err()
	}
	root := s.parse(string(data))
	if err := s.err(); err != nil {
		return nil, err
	}
	c := new(Catalog)
	if root != nil {
		s.decode(c, root)
	}
	s.validate(c)
	if err := s.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// parse reads the text as YAML, of which JSON is a part. It returns nil for an
// empty text, or when it noted a problem.
func (s *source) parse(text string) ast.Node {
	tokens := lexer.Tokenize(text)
	s.scan(tokens)
	if len(s.problems) > 0 {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // duplicates: see decode
	if err != nil {
		s.syntaxError(err)
		return nil
	}
	var root ast.Node
	for _, doc := range file.Docs {
		switch {
		case doc.Body == nil || doc.Body.Type() == ast.CommentType:
		case root != nil:
			s.problemf(start(doc.Body), "", showLine, "a second document: a catalog is one, so take out the ---")
			return nil
		default:
			root = doc.Body
		}
	}
	return root
}

// scan refuses, before the parser recurses into them, texts that are nested
// deeply, and what of YAML has no place in a catalog.
func (s *source) scan(tokens token.Tokens) {
	nesting := 0
	for _, t := range tokens {
		at := position{t.Position.Line, t.Position.Column}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			if nesting++; nesting > maxNesting {
				s.problemf(at, "", showNone, "more than %d brackets inside each other", maxNesting)
				return
			}
		case token.MappingEndType, token.SequenceEndType:
			nesting--
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			s.problemf(at, "", showNone, "anchors, aliases and merge keys are not supported: write the value out")
		case token.TagType:
			s.problemf(at, "", showNone, "tags are not supported: take the %q away", t.Value)
		case token.MappingKeyType:
			s.problemf(at, "", showNone, "complex keys are not supported: write name: value")
		case token.DirectiveType:
			s.problemf(at, "", showNone, "directives are not supported: take the line away")
		case token.MappingValueType, token.SequenceEntryType:
			if nesting == 0 && t.Position.IndentNum > maxIndent || t.Type == token.SequenceEntryType && at.column > maxIndent {
				s.problemf(at, "", showNone, "indented by more than %d columns", maxIndent)
				return
			}
		default: // the parser's business
		}
	}
}

func (s *source) syntaxError(err error) {
	var syntax yaml.Error
	if !errors.As(err, &syntax) || syntax.GetToken() == nil {
		s.problemf(position{1, 1}, "", showNone, "not YAML")
		return
	}
	p := syntax.GetToken().Position
	at := position{p.Line, p.Column}
	v := showLine
	if n := min(at.line, len(s.lines)); n > 0 {
		if line := strings.ToLower(s.lines[n-1]); strings.Contains(line, "credential") || strings.Contains(line, "://") {
			v = showNone
		}
	}
	s.problemf(at, "", v, "not YAML: %s", syntax.GetMessage())
}

// start returns where a value begins. A block's own token is not its first.
func start(n ast.Node) position {
	for {
		switch t := n.(type) {
		case *ast.MappingNode:
			if t.IsFlowStyle || len(t.Values) == 0 {
				return tokenPosition(t)
			}
			n = t.Values[0].Key
		case *ast.MappingValueNode:
			n = t.Key
		default:
			return tokenPosition(n)
		}
	}
}

func tokenPosition(n ast.Node) position {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return position{t.Position.Line, t.Position.Column}
	}
	return position{1, 1}
}
