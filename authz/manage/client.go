package manage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxAnswer is the most of an answer that the client reads: 64 MiB.
const maxAnswer = 64 << 20

// ErrUnreachable is what a Client's errors wrap when nothing that speaks the
// management API answered.
var ErrUnreachable = errors.New("no Tollgate answers")

// Client calls the management API. An answer that isn't a success is an *Error
// with the API's own message. It may be used by many goroutines.
type Client struct {
	base string
	key  string
	http *http.Client
}

// NewClient makes a client of the API at addr (host:port, or a URL), which
// presents a key. hc nil: http.Client's zero value, without a bound on time; use the
// context's.
func NewClient(addr, key string, hc *http.Client) (*Client, error) {
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the API's address %q is not HOST:PORT or a URL", addr)
	}
	if hc == nil {
		hc = &http.Client{}
	}
	keep := *hc
	// A redirect would hand the key to somebody else.
	keep.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{strings.TrimSuffix(u.String(), "/"), key, &keep}, nil
}

// Answer is a success: what the API said, and the same decoded.
type Answer[T any] struct {
	Value T
	Raw   []byte // the body, nil where there is none
	// Next is the query of the next page, nil on the last one.
	Next url.Values
	// ETag is what to send as If-Match, "" where the answer has none.
	ETag string
	// Reach is how far a change has come.
	Reach Reach
	// Pending is how many stored events an answer about usage doesn't count yet;
	// nil: it is not known, or the answer is about something else.
	Pending *uint64
}

// Events reads stored usage events; query has after or since, limit and wait.
// Next is never nil: it goes on behind these events.
func (c *Client) Events(ctx context.Context, query url.Values) (Answer[[]jsontext.Value], error) {
	return ask[[]jsontext.Value](ctx, c, http.MethodGet, "/api/v1/events", query, nil)
}

// CreateConsumer lets an outside consumer read usage events. Only this answer
// has its password.
func (c *Client) CreateConsumer(ctx context.Context, req ConsumerRequest) (Answer[Credential], error) {
	return ask[Credential](ctx, c, http.MethodPost, "/api/v1/consumers", nil, req)
}

// ListConsumers lists the outside consumers.
func (c *Client) ListConsumers(ctx context.Context) (Answer[[]Consumer], error) {
	return ask[[]Consumer](ctx, c, http.MethodGet, "/api/v1/consumers", nil, nil)
}

// DeleteConsumer takes a consumer's credential away.
func (c *Client) DeleteConsumer(ctx context.Context, name string) error {
	_, err := ask[none](ctx, c, http.MethodDelete, "/api/v1/consumers/"+url.PathEscape(name), nil, nil)
	return err
}

// ListModels reads a page of models; query has cursor and limit.
func (c *Client) ListModels(ctx context.Context, query url.Values) (Answer[[]Model], error) {
	return ask[[]Model](ctx, c, http.MethodGet, "/api/v1/models", query, nil)
}

// Deploy deploys a model, or undeploys it.
func (c *Client) Deploy(ctx context.Context, model string, deployed bool) (Answer[Model], error) {
	path := "/api/v1/models/deploy"
	if !deployed {
		path = "/api/v1/models/undeploy"
	}
	return ask[Model](ctx, c, http.MethodPost, path, nil, ModelRequest{model})
}

// Catalog reads the stored catalog, as JSON.
func (c *Client) Catalog(ctx context.Context) (Answer[jsontext.Value], error) {
	return ask[jsontext.Value](ctx, c, http.MethodGet, "/api/v1/catalog", nil, nil)
}

// Apply applies a catalog's text; query has dryRun, prune and name.
func (c *Client) Apply(ctx context.Context, text []byte, query url.Values) (Answer[Applied], error) {
	return ask[Applied](ctx, c, http.MethodPut, "/api/v1/catalog", query, raw(text))
}

// header is a header of a request; an empty one is not sent.
type header struct{ name, value string }

// ask calls the API once; a body that is not raw is sent as JSON. It does not
// try again: a creation might happen twice.
func ask[T any](ctx context.Context, c *Client, method, path string, query url.Values, body any, headers ...header) (a Answer[T], err error) {
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	media, content := "application/json", []byte(nil)
	switch b := body.(type) {
	case nil:
	case raw:
		media, content = "application/yaml", b
	default:
		if content, err = json.Marshal(b); err != nil {
			return a, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(content))
	if err != nil {
		return a, err
	}
	for _, h := range headers {
		if h.value != "" {
			req.Header.Set(h.name, h.value)
		}
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if len(content) > 0 {
		req.Header.Set("Content-Type", media)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, fmt.Errorf("%w at %s: %w", ErrUnreachable, c.base, err)
	}
	defer resp.Body.Close()
	a.Raw, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, fmt.Errorf("%w at %s: its answer broke off: %w", ErrUnreachable, c.base, err)
	}
	if resp.StatusCode >= 300 {
		return a, failure(c.base, resp, a.Raw)
	}
	a.Next, a.ETag, a.Reach = next(resp.Header.Get("Link")), resp.Header.Get("ETag"), readReach(resp.Header)
	a.Pending = readPending(resp.Header)
	if len(a.Raw) == 0 {
		a.Raw = nil
		return a, nil
	}
	// Fields that a newer server adds are not an error.
	if err = json.Unmarshal(a.Raw, &a.Value); err != nil {
		return a, fmt.Errorf("%w at %s: something else does: %w", ErrUnreachable, c.base, err)
	}
	return a, nil
}

// failure makes an answer that isn't a success an *Error.
func failure(base string, resp *http.Response, body []byte) error {
	e := &Error{}
	if json.Unmarshal(body, e) != nil || e.Status != resp.StatusCode || e.Message == "" {
		return fmt.Errorf("%w at %s: something else does, with status %s", ErrUnreachable, base, resp.Status)
	}
	return e
}

// next takes the next page's query out of a Link header, as linkNext wrote it.
func next(link string) url.Values {
	target, rel, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(rel, `rel="next"`) {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil
	}
	return u.Query()
}
