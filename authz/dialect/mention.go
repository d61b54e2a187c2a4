package dialect

import (
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"tollgate/authz/reason"
)

// Mentioned is an object that a request names.
type Mentioned struct {
	Kind string
	ID   string // 1 to MaxObjectID bytes, without blanks around it
	// Field is where it stands, for a refusal; "" in the path.
	Field string
	Open  bool // as Mention.Open
}

// Bounds of what a request mentions. One that mentions more is refused.
const (
	MaxMentioned = 16
	MaxObjectID  = 256 // bytes
)

// mentions reads what the path and the query of a request mention. What its body
// mentions is read with the body.
func (p *Path) mentions(req *Request) (found []Mentioned, r reason.Reason, detail, param string) {
	if len(p.Mentions) > 0 && (p.Method == http.MethodGet || p.Method == http.MethodDelete) && showsBody(req) {
		return nil, reason.BodyInvalid, "The request has a body, which is not read here. Send it without one.", ""
	}
	for i := range p.Mentions {
		m := &p.Mentions[i]
		switch m.In {
		case ModelInPath:
			path, _ := SplitPath(req.Path)
			if id, ok := p.match(path); ok {
				found = append(found, Mentioned{Kind: m.Kind, ID: id, Open: m.Open})
			}
		case ModelInQuery:
			var q queryValue
			if detail := q.find(req.Path, m.Field); detail != "" {
				return nil, reason.BodyInvalid, detail, m.Field
			}
			switch {
			case q.text == "":
				return nil, reason.BodyInvalid, "The request's query has no " + m.Field + ". Send it as `?" + m.Field + "=`.", m.Field
			case !isObjectID(q.text):
				return nil, reason.BodyInvalid, "The query's " + m.Field + " " + idRule + ".", m.Field
			}
			found = append(found, Mentioned{Kind: m.Kind, ID: q.text, Field: m.Field, Open: m.Open})
		}
	}
	return found, reason.None, "", ""
}

// showsBody reports whether it can be seen that a request has a body: there an upstream
// may look for the id too, and find another one.
func showsBody(req *Request) bool {
	return len(req.Body) > 0 || req.BodyCut || slices.ContainsFunc(req.Headers, func(h Header) bool {
		return h.Name == "transfer-encoding" || h.Name == "content-length" && trim(h.Value) != "0"
	})
}

// idRule is what an id must be, for a sentence about one.
const idRule = "must be an id: a string of at most 256 bytes without blanks around it, or a whole number"

// isObjectID reports whether every upstream takes a text for the same id: some
// trim blanks, or end at a NUL.
func isObjectID(id string) bool {
	if id == "" || len(id) > MaxObjectID || !utf8.ValidString(id) || strings.TrimSpace(id) != id {
		return false
	}
	for i := range len(id) {
		if id[i] < ' ' || id[i] == 0x7f {
			return false
		}
	}
	return true
}
