package manage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
)

// Idempotency remembers for a day or more which id a creation with an
// Idempotency-Key was given. It may block on I/O until its context ends. Its
// errors wrap key.ErrUnavailable.
type Idempotency interface {
	// Claim notes what a name stands for, unless it stands for something
	// already, and returns what it stands for then. Of claims of one name at the
	// same time all return the same.
	Claim(ctx context.Context, name string, made Made) (Made, error)
}

// Made is what a creation is noted by.
type Made struct {
	ID string // of what is made
	// Fingerprint tells the request from others.
	Fingerprint string
}

// ever is the caller's name, another one for a user who has the id of one that was
// deleted.
func (c *caller) ever() string {
	if c.operator() || c.rec.Generation == "" {
		return c.name()
	}
	return c.name() + "/" + c.rec.Generation
}

// once returns the id that what a request creates must have: fresh or, where a
// request with the same Idempotency-Key came before, the id that was given then.
// To store it under that id only if there is none yet is what makes it one, also
// when two requests come at once or the first one failed half-way; the one that
// finds it there answers madeAlready. replay: there was a request before.
func (a *api) once(ctx context.Context, c *call, kind, fresh string) (id string, replay bool, err error) {
	word := c.r.Header.Get(idempotencyKey)
	if word == "" {
		return fresh, false, nil
	}
	if a.Idempotency == nil {
		return "", false, invalid(idempotencyKey, "is not remembered by this Tollgate; leave it out")
	}
	made := Made{fresh, hash(c.r.Method, c.r.URL.RequestURI(), string(c.body))}
	is, err := a.Idempotency.Claim(ctx, hash(kind, c.who.ever(), word), made)
	switch {
	case err != nil:
		return "", false, err
	case is.Fingerprint != made.Fingerprint:
		return "", false, refuse(http.StatusUnprocessableEntity,
			"Idempotency-Key: another request had the same one; choose a new one for each creation")
	}
	return is.ID, is.ID != fresh, nil
}

// madeAlready is the answer to a creation that was made before.
func madeAlready(path, id, what string) error {
	e := refuse(http.StatusConflict, "%s", what)
	e.ID, e.location = id, path+"/"+id
	return e
}

// hash makes one name of several texts.
func hash(texts ...string) string {
	h := sha256.New()
	for _, t := range texts {
		fmt.Fprintf(h, "%d:", len(t))
		_, _ = io.WriteString(h, t) // a hash's writer never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}
