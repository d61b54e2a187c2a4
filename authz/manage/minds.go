package manage

import (
	"context"
	"strconv"
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

const mePath = "/api/v1/auth/me"

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
