package manage

import (
	"context"
	"net/http"
	"net/url"

	"github.com/go-json-experiment/json/jsontext"
)

// ListWorkspaces reads a page of workspaces; query has cursor and limit.
func (c *Client) ListWorkspaces(ctx context.Context, query url.Values) (Answer[[]Workspace], error) {
	return ask[[]Workspace](ctx, c, http.MethodGet, workspacesPath, query, nil)
}

// Workspace shows a workspace.
func (c *Client) Workspace(ctx context.Context, id string) (Answer[Workspace], error) {
	return ask[Workspace](ctx, c, http.MethodGet, workspacePath(id), nil, nil)
}

// CreateWorkspace makes a workspace.
func (c *Client) CreateWorkspace(ctx context.Context, req WorkspaceRequest) (Answer[Workspace], error) {
	return ask[Workspace](ctx, c, http.MethodPost, workspacesPath, nil, req)
}

// UpdateWorkspace changes a workspace.
func (c *Client) UpdateWorkspace(ctx context.Context, id string, fields WorkspaceFields) (Answer[Workspace], error) {
	return ask[Workspace](ctx, c, http.MethodPatch, workspacePath(id), nil, fields)
}

// SuspendWorkspace suspends a workspace, or takes that back.
func (c *Client) SuspendWorkspace(ctx context.Context, id string, suspend bool) (Answer[Workspace], error) {
	return ask[Workspace](ctx, c, http.MethodPost, workspacePath(id)+verb(suspend), nil, nil)
}

// DeleteWorkspace deletes a workspace: its keys open nothing any more, for good.
func (c *Client) DeleteWorkspace(ctx context.Context, id string) (Reach, error) {
	a, err := ask[none](ctx, c, http.MethodDelete, workspacePath(id), nil, nil)
	return a.Reach, err
}

// GrantCredit grants prepaid credit to a workspace. With an IdempotencyKey that was
// sent before, the error is an *Error of status 409.
func (c *Client) GrantCredit(ctx context.Context, workspace string, req CreditRequest) (Answer[Grant], error) {
	return ask[Grant](ctx, c, http.MethodPost, workspacePath(workspace)+"/credits", nil, req, header{idempotencyKey, req.IdempotencyKey})
}

// ListUsers reads a page of users; query has workspace, cursor and limit.
func (c *Client) ListUsers(ctx context.Context, query url.Values) (Answer[[]User], error) {
	return ask[[]User](ctx, c, http.MethodGet, usersPath, query, nil)
}

// User shows a user. workspace may be "" where there is only one.
func (c *Client) User(ctx context.Context, workspace, id string) (Answer[User], error) {
	return ask[User](ctx, c, http.MethodGet, userPath(id), inWorkspace(workspace), nil)
}

// CreateUser makes a user.
func (c *Client) CreateUser(ctx context.Context, req UserRequest) (Answer[User], error) {
	return ask[User](ctx, c, http.MethodPost, usersPath, nil, req)
}

// UpdateUser changes a user.
func (c *Client) UpdateUser(ctx context.Context, workspace, id string, fields UserFields) (Answer[User], error) {
	return ask[User](ctx, c, http.MethodPatch, userPath(id), inWorkspace(workspace), fields)
}

// SuspendUser suspends a user, or takes that back.
func (c *Client) SuspendUser(ctx context.Context, workspace, id string, suspend bool) (Answer[User], error) {
	return ask[User](ctx, c, http.MethodPost, userPath(id)+verb(suspend), inWorkspace(workspace), nil)
}

// DeleteUser deletes a user: their personal keys open nothing any more, for good.
func (c *Client) DeleteUser(ctx context.Context, workspace, id string) (Reach, error) {
	a, err := ask[none](ctx, c, http.MethodDelete, userPath(id), inWorkspace(workspace), nil)
	return a.Reach, err
}

// Explain asks whether a request would pass now.
func (c *Client) Explain(ctx context.Context, req ExplainRequest) (Answer[Explained], error) {
	return ask[Explained](ctx, c, http.MethodPost, "/api/v1/explain", nil, req)
}

// Audit reads a page of the audit trail; query has workspace, from, to, cursor and
// limit.
func (c *Client) Audit(ctx context.Context, query url.Values) (Answer[[]jsontext.Value], error) {
	return ask[[]jsontext.Value](ctx, c, http.MethodGet, "/api/v1/audit", query, nil)
}

// Usage sums usage up; query has from, to, groupBy, workspace, key, user and model.
func (c *Client) Usage(ctx context.Context, query url.Values) (Answer[[]UsageRow], error) {
	return ask[[]UsageRow](ctx, c, http.MethodGet, usagePath, query, nil)
}

// KeyUsage sums up what a key used; query has from, to and workspace.
func (c *Client) KeyUsage(ctx context.Context, id string, query url.Values) (Answer[KeyUsage], error) {
	return ask[KeyUsage](ctx, c, http.MethodGet, keyPath(id)+"/usage", query, nil)
}

func workspacePath(id string) string { return workspacesPath + "/" + url.PathEscape(id) }

func userPath(id string) string { return usersPath + "/" + url.PathEscape(id) }

func verb(suspend bool) string {
	if suspend {
		return "/suspend"
	}
	return "/resume"
}
