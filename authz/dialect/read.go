package dialect

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"tollgate/authz/reason"
)

// Read reads what the request asks for, by the rule of c.Path, into c, which
// Route began. It refuses what the upstream could read in another way: detail
// says what is wrong, param names the member or field at fault, and c is filled
// in part. Of a request whose body has not come yet it reads the headers.
//
// Read goes once over the body, in a bounded amount of memory of its own. For
// JSON it does not allocate, except for a model whose name is escaped.
func (c *Call) Read(req *Request) (r reason.Reason, detail, param string) {
	mentioned, r, detail, param := c.Path.mentions(req)
	if c.Mentioned = mentioned; r != reason.None {
		return r, detail, param
	}
	boundary := ""
	switch c.Path.BodyIn() {
	case ModelInJSON:
		detail = checkJSONHeaders(req)
	case ModelInForm:
		boundary, detail = formBoundary(req)
	case ModelInURLForm:
		detail = checkURLFormHeaders(req)
	case ModelInQuery:
		return c.readQuery(req)
	default:
		return reason.None, "", ""
	}
	switch {
	case detail != "":
		return reason.BodyInvalid, detail, ""
	case req.HeadersOnly:
		return reason.None, "", ""
	case req.BodyCut:
		return reason.BodyInvalid, bodyCut, ""
	case len(req.Body) == 0:
		return reason.BodyInvalid, "The request has no body.", ""
	}
	inPath := c.Model
	*c = Call{Dialect: c.Dialect, Path: c.Path, Action: c.Action, Answer: c.Answer, Choices: 1, Mentioned: mentioned}
	switch c.Path.BodyIn() {
	case ModelInJSON:
		r, detail, param = c.readJSON(req.Body)
	case ModelInURLForm:
		_, query := SplitPath(req.Path)
		r, detail, param = c.readURLForm(req.Body, query)
	default:
		_, query := SplitPath(req.Path)
		if r, detail, param = c.readFormQuery(query); r == reason.None {
			r, detail, param = c.readForm(req.Body, boundary)
		}
	}
	if r == reason.None && c.Path.ModelIn == ModelInPath {
		if c.Model != "" && c.Model != inPath {
			return reason.ModelAmbiguous, "The path names the model " + named(inPath) + ", and the body another one. Name the same in both, or none in the body.", c.Path.ModelField
		}
		c.Model = inPath
	}
	return r, detail, param
}

// Relength is the edit of the body that goes with Rename: some clients (OkHttp) tell in
// a form how long each part is, and some servers read no more. It returns false where
// the body doesn't tell it of the model.
func (c *Call) Relength(model string) (at Span, text string, ok bool) {
	return c.lengthAt, strconv.Itoa(len(model)), c.lengthAt != (Span{})
}

// bodyCut is for whoever runs a proxy that is not configured for Tollgate.
const bodyCut = "The proxy did not send the whole body of the request to Tollgate, which reads the model there. " +
	"Whoever runs the proxy: let the check carry the body (ext_authz: with_request_body without allow_partial_message; " +
	"Istio: includeRequestBodyInCheck; Envoy Gateway: bodyToExtAuth), as long as the longest body."

// Rename is the edit of the body that makes it name another model. It returns false
// where the body names none: see Retarget. A form takes no name with a line break
// in it.
func (c *Call) Rename(model string) (at Span, text string, ok bool) {
	if c.ModelAt == (Span{}) {
		return Span{}, "", false // no body begins with its model
	}
	switch c.Path.BodyIn() {
	case ModelInJSON:
		quoted, err := json.Marshal(model)
		return c.ModelAt, string(quoted), err == nil
	case ModelInForm:
		return c.ModelAt, model, !strings.ContainsAny(model, "\r\n")
	case ModelInURLForm:
		return c.ModelAt, url.QueryEscape(model), true
	}
	return Span{}, "", false
}

// bodyHeaders returns the content-type ("" if there is none), and what is wrong
// with the headers that say how the body is to be read.
func bodyHeaders(req *Request) (contentType, detail string) {
	found := false
	for i := range req.Headers {
		h := &req.Headers[i]
		switch h.Name {
		case "content-type":
			if found {
				return "", "The content-type header was sent more than once. Send it once."
			}
			found, contentType = true, trim(h.Value)
		case "content-encoding":
			if e := trim(h.Value); e != "" && !strings.EqualFold(e, "identity") {
				return "", "The request's body is compressed (content-encoding), which can't be read here. Send it as it is."
			}
		}
	}
	return contentType, ""
}

// checkJSONHeaders says what is wrong with the headers of a JSON request.
// Without a content-type the body is taken for JSON, as upstreams do.
func checkJSONHeaders(req *Request) (detail string) {
	contentType, detail := bodyHeaders(req)
	if detail != "" || contentType == "" {
		return detail
	}
	mediaType, parameters, _ := strings.Cut(contentType, ";")
	mediaType = trim(mediaType)
	if !isJSONType(mediaType) {
		return "This path takes JSON, and the content-type is " + shown(mediaType) + ". Send content-type: application/json."
	}
	if !isUTF8(parameters) {
		return "JSON is UTF-8, and the content-type has another charset. Send content-type: application/json."
	}
	return ""
}

// isUTF8 reports whether the parameters of a content-type name no other charset.
func isUTF8(parameters string) bool {
	for parameters != "" {
		var one string
		one, parameters, _ = strings.Cut(parameters, ";")
		name, value, _ := strings.Cut(one, "=")
		if strings.EqualFold(trim(name), "charset") && !strings.EqualFold(strings.Trim(value, blanks+`"`), "utf-8") {
			return false
		}
	}
	return true
}

func isJSONType(mediaType string) bool {
	const application, suffix = "application/", "+json"
	if len(mediaType) < len(application) || !strings.EqualFold(mediaType[:len(application)], application) {
		return false
	}
	subtype := mediaType[len(application):]
	return strings.EqualFold(subtype, "json") ||
		len(subtype) > len(suffix) && strings.EqualFold(subtype[len(subtype)-len(suffix):], suffix)
}

// shown is a media type for a message: only if it looks like one.
func shown(mediaType string) string {
	const most = 64
	if mediaType == "" || len(mediaType) > most {
		return "another"
	}
	for i := range len(mediaType) {
		if c := mediaType[i]; !isTokenByte(c) && c != '/' {
			return "another"
		}
	}
	return mediaType
}

// isTokenByte reports whether c is an RFC 9110 tchar.
func isTokenByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}
