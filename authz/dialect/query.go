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
	path, query := SplitPath(req.Path)
	if strings.Contains(query, ";") {
		return reason.ModelAmbiguous, "The query has a semicolon, which not every server reads in the same way. Write %3B.", field
	}
	named, at := false, len(path)+1 // at: where in req.Path a pair begins
	for pair := range strings.SplitSeq(query, "&") {
		at += len(pair) + 1
		name, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if err != nil {
			return reason.ModelAmbiguous, "The query has a percent sign that escapes nothing. Write %25.", field
		}
		plain, _, _ = strings.Cut(plain, "[")
		switch {
		case !strings.EqualFold(strings.TrimSpace(plain), field):
			continue
		case named || name != field:
			return reason.ModelAmbiguous, "", field
		}
		named, c.ModelAt = true, Span{at - 1 - len(value), at - 1}
		if c.Model, err = url.QueryUnescape(value); err != nil {
			return reason.ModelAmbiguous, "The model in the query has a percent sign that escapes nothing. Write %25.", field
		}
	}
	if c.Model == "" {
		return reason.ModelMissing, "The request names no model. Name one in the query, as `?" + field + "=`.", field
	}
	return reason.None, "", ""
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
