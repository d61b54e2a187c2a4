package manage

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CreateKey makes a key, or imports one. Only this answer has its secret. With an
// IdempotencyKey that was sent before, the error is an *Error of status 409 whose
// ID is that of the key which was made then.
func (c *Client) CreateKey(ctx context.Context, req KeyRequest) (Answer[CreatedKey], error) {
	return ask[CreatedKey](ctx, c, http.MethodPost, keysPath, nil, req, header{idempotencyKey, req.IdempotencyKey})
}

// ImportKeys imports keys by their SHA-256, all or none; a dry run only says what
// would be done. workspace may be "" where there is only one, or where each key
// names its own.
func (c *Client) ImportKeys(ctx context.Context, workspace string, keys []KeyRequest, dryRun bool) (Answer[ImportReport], error) {
	query := inWorkspace(workspace)
	if dryRun {
		if query == nil {
			query = url.Values{}
		}
		query.Set("dryRun", "true")
	}
	return ask[ImportReport](ctx, c, http.MethodPost, keysPath+"/import", query, ImportRequest{keys})
}

// ListKeys reads a page of keys; query has workspace, cursor and limit.
func (c *Client) ListKeys(ctx context.Context, query url.Values) (Answer[[]Key], error) {
	return ask[[]Key](ctx, c, http.MethodGet, keysPath, query, nil)
}

// Key shows a key. workspace may be "" where there is only one.
func (c *Client) Key(ctx context.Context, workspace, id string) (Answer[Key], error) {
	return ask[Key](ctx, c, http.MethodGet, keyPath(id), inWorkspace(workspace), nil)
}

// UpdateKey changes a key. With an etag, of an earlier answer, it changes what
// that answer told, or nothing: the error is then an *Error of status 412.
func (c *Client) UpdateKey(ctx context.Context, workspace, id string, fields KeyFields, etag string) (Answer[Key], error) {
	return ask[Key](ctx, c, http.MethodPatch, keyPath(id), inWorkspace(workspace), fields, header{ifMatch, etag})
}

// RotateKey gives a key another secret, which only this answer has. The one before
// it opens the key until grace is over, older ones nothing any more.
func (c *Client) RotateKey(ctx context.Context, workspace, id string, grace time.Duration) (Answer[CreatedKey], error) {
	return ask[CreatedKey](ctx, c, http.MethodPost, keyPath(id)+"/rotate", inWorkspace(workspace), Rotation{new(grace.String())})
}

// RevokeKey revokes a key: when it returns without an error, the key opens
// nothing, but for what the Reach says.
func (c *Client) RevokeKey(ctx context.Context, workspace, id string) (Reach, error) {
	a, err := ask[none](ctx, c, http.MethodDelete, keyPath(id), inWorkspace(workspace), nil)
	return a.Reach, err
}

// RevokeSecret revokes one secret of a key, by its number.
func (c *Client) RevokeSecret(ctx context.Context, workspace, id string, number int) (Reach, error) {
	a, err := ask[none](ctx, c, http.MethodDelete, keyPath(id)+"/secrets/"+strconv.Itoa(number), inWorkspace(workspace), nil)
	return a.Reach, err
}

func keyPath(id string) string { return keysPath + "/" + url.PathEscape(id) }

func inWorkspace(id string) url.Values {
	if id == "" {
		return nil
	}
	return url.Values{"workspace": {id}}
}
