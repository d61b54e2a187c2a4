package catalog

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"tollgate/authz/key"
)

// Two fields of a workspace and of a user say where it comes from. They stand in
// the stored form only; what a text says of them counts for nothing.
//
// Managed names the fields that the management API set, which an apply leaves
// alone; Everything stands in it where the API made the whole.
//
// Generation tells a workspace or a user from others of the same id, before and
// after it. A key says which one it was made for, and opens nothing for another:
// so deleting a workspace closes its keys for good, whoever makes one of the
// same id later. It is random: times would have to be told by one clock, and a
// count would need a memory of what was deleted. "" is what it has in the first
// catalog of a deployment.

// Everything is in Managed of what the management API made.
const Everything = "*"

// identity is a workspace's (User "") or a user's.
type identity struct{ Workspace, User string }

// Generations are those of a catalog's workspaces and users, from before it is
// changed. See Stamp.
type Generations map[identity]string

// Generations returns those of now.
func (c *Catalog) Generations() Generations {
	g := make(Generations, len(c.Workspaces)+len(c.Users))
	for i := range c.Workspaces {
		g[identity{c.Workspaces[i].ID, ""}] = c.Workspaces[i].Generation
	}
	for i := range c.Users {
		g[identity{c.Users[i].Workspace, c.Users[i].ID}] = c.Users[i].Generation
	}
	return g
}

// Stamp gives what was there before a change its generation back, and what is new
// one that fresh makes, which must be random. Every change of a stored catalog
// ends with it.
func (c *Catalog) Stamp(before Generations, fresh func() string) {
	stamp := func(id identity, generation *string) {
		old, known := before[id]
		if !known {
			old = fresh()
		}
		*generation = old
	}
	for i := range c.Workspaces {
		stamp(identity{c.Workspaces[i].ID, ""}, &c.Workspaces[i].Generation)
	}
	for i := range c.Users {
		stamp(identity{c.Users[i].Workspace, c.Users[i].ID}, &c.Users[i].Generation)
	}
}

// Owner returns the workspace that a key was made for and, of a personal key, the
// user. It returns false where either was deleted since, also if there is another
// one of the same id now: the key then opens nothing, for good.
func (t *Tables) Owner(r *key.Record) (*Workspace, *User, bool) {
	w := t.Workspaces[r.Workspace]
	if w == nil {
		return nil, nil, false
	}
	if r.Kind != key.Personal {
		return w, nil, w.Generation == r.Generation
	}
	// A user of a workspace that was deleted is gone with it, so its generation
	// stands for both.
	u := w.Users[r.User]
	return w, u, u != nil && u.Generation == r.Generation
}

// GenerationFor is what a new key's Generation has to be: that of its user, or of
// its workspace. "" where there is no such one.
func (t *Tables) GenerationFor(r *key.Record) string {
	w := t.Workspaces[r.Workspace]
	switch {
	case w == nil:
		return ""
	case r.Kind != key.Personal:
		return w.Generation
	case w.Users[r.User] == nil:
		return ""
	}
	return w.Users[r.User].Generation
}

var generationPattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func (s *source) provenance(path string, managed []string, generation string) {
	for i, field := range managed {
		s.required(fmt.Sprintf("%s.managed[%d]", path, i), field, checkText)
		if slices.Contains(managed[:i], field) {
			s.invalidf(fmt.Sprintf("%s.managed[%d]", path, i), "%s stands twice", quote(field))
		}
	}
	s.optional(path+".generation", generation, func(text string) error {
		if !generationPattern.MatchString(text) {
			return errors.New("a generation is 1 to 64 letters, digits and -; Tollgate writes it by itself")
		}
		return nil
	})
}
