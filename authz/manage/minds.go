package manage

import (
	"context"
	"net/http"
	"strconv"

	"tollgate/authz/key"
)

// MindsKey is a key as Minds documents its list of them.
type MindsKey struct {
	ID         string  `json:"id"`
	Name       *string `json:"name"`
	CreatedAt  Time    `json:"createdAt"`
	LastUsedAt *Time   `json:"lastUsedAt"`
}

// MindsCreated is the answer to a creation as Minds documents it.
type MindsCreated struct {
	ID        string  `json:"id"`
	Name      *string `json:"name"`
	Key       string  `json:"key" doc:"The key itself. It is in this answer only"`
	CreatedAt Time    `json:"createdAt"`
}

// MindsRequest is the body of a creation as Minds documents it.
type MindsRequest struct {
	Name Change[string] `json:"name,omitzero" doc:"1 to 100 characters once trimmed; blank is null"`
}

// NewMinds makes the handler of the part of the management API that Minds has, in
// its documented form and no more: for the paths /api/v1/auth/me and
// /api/v1/api-keys of a gateway that many may reach. So the operator's key opens
// nothing there. Everything else about it is New's.
func NewMinds(cfg Config) (http.Handler, error) {
	cfg.OperatorKey = key.Digest{}
	a, err := newAPI(cfg)
	if err != nil {
		return nil, err
	}
	handle(a, route{
		method: http.MethodGet, path: "/api/v1/auth/me", who: anyKey, status: http.StatusOK,
		summary: "The user whose key is presented",
	}, a.me)
	handle(a, route{
		method: http.MethodGet, path: keysPath, who: managers, status: http.StatusOK,
		summary: "Lists keys, oldest first",
		query: []param{{"cursor", "Where to go on, from the Link header"},
			{"limit", "Keys on a page, 1 to " + strconv.Itoa(maxPageSize) + ", which is the default"}},
	}, a.listMinds)
	handle(a, route{
		method: http.MethodPost, path: keysPath, who: managers, status: http.StatusCreated,
		summary: "Makes a key", once: true, example: map[string]string{"name": "prod"},
	}, a.createMinds)
	handle(a, route{
		method: http.MethodDelete, path: keysPath + "/{id}", who: managers, status: http.StatusNoContent,
		summary: "Revokes a key, at once and for good", matches: true,
	}, a.revokeKey)
	return a.outermost(), nil
}

func (a *api) listMinds(ctx context.Context, c *call, _ none) ([]MindsKey, error) {
	if !c.query.Has("limit") {
		c.query.Set("limit", strconv.Itoa(maxPageSize)) // who knows Minds knows no pages
	}
	page, err := a.listKeys(ctx, c, none{})
	keys := make([]MindsKey, len(page))
	for i, k := range page {
		keys[i] = MindsKey{k.ID, k.Name, k.CreatedAt, k.LastUsedAt}
	}
	return keys, err
}

func (a *api) createMinds(ctx context.Context, c *call, req MindsRequest) (MindsCreated, error) {
	made, err := a.createKey(ctx, c, KeyRequest{KeyFields: KeyFields{Name: req.Name}})
	return MindsCreated{made.ID, made.Name, made.Secret, made.CreatedAt}, err
}
