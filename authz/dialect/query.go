package dialect

import (
	"net/url"
	"strings"

	"tollgate/authz/reason"
)

// keyProtocol begins the WebSocket subprotocol in which browsers send OpenAI a
// key. An upstream would take it for its own.
const keyProtocol = "openai-insecure-api-key."

// readQuery reads a request that names its model in the query: once, in plain
// letters. It refuses what another server could read as a second name: the
// parameter in other letters or escapes, as a list (model[]), and a semicolon,
// which some take for an ampersand.
func (c *Call) readQuery(req *Request) (r reason.Reason, detail, param string) {
	if c.Path.WebSocket {
		if r, detail = checkUpgrade(req); r != reason.None {
			return r, detail, ""
		}
	}
	field := c.Path.ModelField
	var q queryValue
	if detail := q.find(req.Path, field); detail != "" {
		return reason.ModelAmbiguous, detail, field
	}
	c.Model, c.ModelAt = q.text, q.at
	if c.Model == "" {
		return reason.ModelMissing, "The request names no model. Name one in the query, as `?" + field + "=`.", field
	}
	return reason.None, "", ""
}

// queryValue is a parameter of a query, which may stand there once.
type queryValue struct {
	found bool
	text  string // unescaped
	at    Span   // of the value in the request's path
}

// find looks for the parameter field in a :path. detail is what is wrong where
// another server could read it in another way: the parameter in other letters or
// escapes, twice, as a list (model[]), or a semicolon, which some take for an
// ampersand.
func (q *queryValue) find(target, field string) (detail string) {
	path, query := SplitPath(target)
	if strings.Contains(query, ";") {
		return "The query has a semicolon, which not every server reads in the same way. Write %3B."
	}
	at := len(path) + 1 // where in target a pair begins
	for pair := range strings.SplitSeq(query, "&") {
		at += len(pair) + 1
		name, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			return "The query has a percent sign that escapes nothing. Write %25."
		}
		if !meansField(plain, field) {
			continue
		}
		if q.found || name != field {
			return "The query names " + field + " more than once, or in other letters. Name it once, as `" + field + "`."
		}
		q.found, q.at = true, Span{at - 1 - len(value), at - 1}
		if q.text, err = url.QueryUnescape(value); err != nil {
			return "The query's " + field + " has a percent sign that escapes nothing. Write %25."
		}
	}
	return ""
}

// checkUpgrade refuses what is no WebSocket handshake. A proxy takes the header
// out where the connection isn't to be upgraded.
func checkUpgrade(req *Request) (r reason.Reason, detail string) {
	upgrade := false
	for i := range req.Headers {
		h := &req.Headers[i]
		switch h.Name {
		case "upgrade":
			upgrade = strings.EqualFold(trim(h.Value), "websocket")
		case "sec-websocket-protocol":
			if strings.Contains(strings.ToLower(h.Value), keyProtocol) {
				return reason.KeyAmbiguous, "An API key in sec-websocket-protocol is refused: the upstream would see it. Send it in a header: Authorization: Bearer KEY."
			}
		}
	}
	if !upgrade {
		return reason.BodyInvalid, "This path is a WebSocket. Connect with a WebSocket client (GET with Upgrade: websocket)."
	}
	return reason.None, ""
}
