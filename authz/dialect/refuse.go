package dialect

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"tollgate/authz/reason"
)

// Style is how a refusal is written.
type Style uint8

// The styles. The zero Style is what a client gets where no dialect is known.
const (
	OpenAI    Style = iota // {"error":{"message","type","param","code"}}
	Minds                  // {"statusCode","statusMessage","message"}; the management API's too
	Anthropic              // {"type":"error","error":{"type","message"},"request_id"}
	Minibase               // {"success":false,"error","code"}
	Baseten                // {"error":{"message","code"}}
	MiniMax                // {"base_resp":{"status_code","status_msg"}}
	Cohere                 // {"id","message"}
)

// String is the style's name in logs.
func (s Style) String() string {
	return [...]string{"openai", "minds", "anthropic", "minibase", "baseten", "minimax", "cohere"}[s]
}

// Refuse writes a refusal as the dialect's clients understand it. A nil dialect
// (no route matched) speaks the OpenAI style.
func (d *Dialect) Refuse(r Refusal) Response {
	style := OpenAI
	if d != nil {
		style = d.Style
	}
	return style.refuse(r, d.Sentence(&r))
}

// refuse writes a refusal in this style: the reason's status, the headers that
// SDKs act on, and a body whose message says what to do next. r.Reason is not
// None.
func (s Style) refuse(r Refusal, message string) Response {
	status := r.status()
	var body any
	switch s {
	case Anthropic:
		return anthropicRefusal(r, message)
	case Cohere:
		body = cohereRefusal(&r, message)
	case Minds:
		body = mindsRefusal(status, message)
	case Minibase:
		body = minibaseRefusal(&r, message)
	case Baseten:
		return basetenRefusal(&r, message)
	case MiniMax:
		body = minimaxRefusal(&r, message)
	default:
		body = openAIRefusal(&r, message)
	}
	return Response{Status: status, Headers: refusalHeaders(&r), Body: marshal(body)}
}

// status is what the client is answered, but for what a style has of its own.
func (r *Refusal) status() int {
	if r.Status != 0 {
		return r.Status
	}
	return r.Reason.Status()
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// marshal writes v without escaping <, > and &: nothing here is put into HTML.
// The values are this package's own, of which none fails.
func marshal(v any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) //nolint:errchkjson // a buffer takes everything
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// refusalHeaders are the headers that SDKs act on (whether and when to try
// again), and the request's id. Without x-should-retry they try 429 and 503
// again and nothing else that a refusal has.
func refusalHeaders(r *Refusal) []Header {
	h := []Header{{"content-type", "application/json"}}
	if r.RequestID != "" {
		h = append(h, Header{"x-request-id", r.RequestID})
	}
	switch r.Reason {
	case reason.RateLimitExceeded, reason.TokenLimitExceeded, reason.ConcurrencyLimitExceeded:
		wait := r.RetryAfter
		if wait <= 0 {
			wait = time.Second
		}
		h = append(h,
			Header{"retry-after", ceil(wait, time.Second)},
			Header{"retry-after-ms", ceil(wait, time.Millisecond)})
	case reason.Unavailable:
		h = append(h, Header{"retry-after", "1"})
	case reason.BudgetExceeded, reason.WorkspaceSuspended, reason.UserSuspended:
		h = append(h, Header{"x-should-retry", "false"})
	}
	if r.Reason.Status() == http.StatusUnauthorized {
		h = append(h, Header{"www-authenticate", "Bearer"})
	}
	return h
}

// ceil is how many units d has, rounded up: who waits for less than d is
// refused again.
func ceil(d, unit time.Duration) string {
	n := d / unit
	if d%unit > 0 {
		n++
	}
	return strconv.FormatInt(int64(n), 10)
}

// Sentence is the message of a refusal, as its style then has it: its detail if it
// has one. r.Reason is not None; a nil dialect is as for Refuse.
func (d *Dialect) Sentence(r *Refusal) string {
	if r.Detail != "" {
		return r.Detail
	}
	switch r.Reason {
	case reason.RouteUnknown:
		return "There is no such path here, or it takes another method. Check the base URL and the method of the request."
	case reason.KeyMissing:
		return "No API key was presented. Send it in a header: Authorization: Bearer KEY."
	case reason.KeyAmbiguous:
		return "Several different API keys were presented. Send one, in one header."
	case reason.KeyInvalid:
		return "The API key is not valid: it is unknown, revoked or expired. Check that all of it was copied, or use a new key."
	case reason.WorkspaceSuspended:
		return "The workspace of this API key is suspended. Ask whoever runs this service."
	case reason.UserSuspended:
		return "The user of this API key is suspended. Ask an administrator of the workspace."
	case reason.ActionDenied:
		return "This API key may not do this. Use a key that has the action which this path needs."
	case reason.RequestTooLarge:
		return "The request's body is larger than this path takes. Send less at once."
	case reason.BodyInvalid:
		return "The request's body can't be read. Check that it is what its content-type says."
	case reason.ModelMissing:
		return "The request names no model. Name one as `" + orElse(r.Param, "model") + "`."
	case reason.ModelAmbiguous:
		return "The request names its model more than once, or in other letters than it must. Name it once, as `" + orElse(r.Param, "model") + "`."
	case reason.ModelUnknown:
		return "The model " + named(r.Model) + " does not exist, or is not open to this workspace." + d.list(" The list of models has those that are.")
	case reason.ModelNotDeployed:
		return "The model " + named(r.Model) + " is not deployed. Deploy it first, then try again."
	case reason.ModelDenied:
		return "This API key, or its workspace's plan, does not open the model " + named(r.Model) + "." + d.list(" The list of models has those that it opens.")
	case reason.ConcurrencyLimitExceeded:
		return "Too many requests at the same time. Wait for one of them to end, then try again."
	case reason.RateLimitExceeded:
		return "The limit of requests per minute is reached. Try again after the time in retry-after."
	case reason.TokenRequestTooLarge:
		return "This one request may use more tokens than the whole limit per minute. Shorten the prompt or lower the maximum of output tokens."
	case reason.TokenLimitExceeded:
		return "The limit of tokens per minute is reached. Try again after the time in retry-after."
	case reason.BudgetExceeded:
		return "The budget is used up. Raise it, add credit, or wait for its next period."
	case reason.ResourceLimitExceeded:
		return "The plan's number of these is reached. Delete one, or change the plan."
	}
	return "Keys or limits can't be checked at the moment. Try again in a second."
}

// list is what a sentence tells of the list of models, where the dialect has one.
func (d *Dialect) list(told string) string {
	if d == nil || !slices.ContainsFunc(d.Paths, func(p Path) bool { return p.Answer == AnswerModels }) {
		return ""
	}
	return told
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// named quotes the id of a model for a message, cut where it is overlong.
func named(model string) string {
	const most = 128 // bytes
	if len(model) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(model[cut]) {
			cut--
		}
		model = model[:cut] + "…"
	}
	return "`" + model + "`"
}
