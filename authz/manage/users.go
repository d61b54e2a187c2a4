package manage

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"tollgate/authz/catalog"
	"tollgate/authz/key"
)

const usersPath = "/api/v1/users"

// User is a person in a workspace as the API tells it.
type User struct {
	ID        string       `json:"id"`
	Workspace string       `json:"workspace"`
	Role      catalog.Role `json:"role" enum:"admin,member"`
	Suspended bool         `json:"suspended"`
	// SuspendedBy is who may take the suspension back, beside the operator.
	SuspendedBy *string           `json:"suspendedBy" enum:"operator,admin" doc:"Who did; null: nobody. What the operator suspended an admin does not resume"`
	ExternalID  *string           `json:"externalId"`
	Labels      map[string]string `json:"labels"`
	Managed     []string          `json:"managed" doc:"The fields that commands set, which an apply leaves alone; *: the user was made by one"`
}

// UserRequest is the body of the creation of a user.
type UserRequest struct {
	ID        string  `json:"id" doc:"Yours: 1 to 128 letters, digits and . _ @ : + = | -"`
	Workspace *string `json:"workspace,omitzero" doc:"For the operator; where there is one workspace it is the default"`
	UserFields
}

// UserFields are the fields of a user that a request may set. In a change, what
// isn't there stays, and null removes.
type UserFields struct {
	Role       Change[catalog.Role]       `json:"role,omitzero" doc:"admin: manages the workspace's keys and users; member: keys of their own. null is member"`
	ExternalID Change[string]             `json:"externalId,omitzero"`
	Labels     Change[map[string]*string] `json:"labels,omitzero" doc:"Copied into each usage event. A label that isn't there stays, null removes one"`
}

var errNoUser = refuse(http.StatusNotFound, "There is no such user")

func (a *api) userRoutes() {
	const one = usersPath + "/{id}"
	workspace := param{"workspace", "For the operator; where there is one workspace it is the default"}
	handle(a, route{
		method: http.MethodGet, path: usersPath, who: managers, status: http.StatusOK,
		summary: "Lists the users of a workspace; for a member, only that one",
		query: []param{workspace, {"cursor", "Where to go on, from the Link header"},
			{"limit", "Users on a page, 1 to " + strconv.Itoa(maxPageSize)}},
	}, a.listUsers)
	handle(a, route{
		method: http.MethodGet, path: one, who: managers, status: http.StatusOK, summary: "Shows a user", query: []param{workspace},
	}, a.showUser)
	if a.Catalog == nil {
		return
	}
	handle(a, route{
		method: http.MethodPost, path: usersPath, who: managers, status: http.StatusCreated, summary: "Makes a user of a workspace",
		query: []param{workspace}, example: map[string]string{"id": "ada@example.com", "role": "admin"},
	}, a.createUser)
	handle(a, route{
		method: http.MethodPatch, path: one, who: managers, status: http.StatusOK, matches: true, query: []param{workspace},
		summary: "Changes a user: what isn't named stays, null removes", example: map[string]string{"role": "member"},
	}, a.updateUser)
	handle(a, route{
		method: http.MethodDelete, path: one, who: managers, status: http.StatusNoContent, matches: true, query: []param{workspace},
		summary: "Deletes a user. Their personal keys open nothing any more, also if one of the same id is made later",
	}, a.deleteUser)
	for verb, suspend := range map[string]bool{"suspend": true, "resume": false} {
		summary := "Refuses everything that is done with a personal key of the user, from now on"
		if !suspend {
			summary = "Takes a suspension back"
		}
		handle(a, route{
			method: http.MethodPost, path: one + "/" + verb, who: managers, status: http.StatusOK, summary: summary, matches: true, query: []param{workspace},
		}, func(ctx context.Context, c *call, _ none) (User, error) {
			return a.changeUser(ctx, c, true, func(u *catalog.UserSpec) error { return c.who.suspends(u, suspend) })
		})
	}
}

func viewUser(workspace string, u *catalog.User) User {
	v := User{
		ID: u.ID, Workspace: workspace, Role: u.Role, Suspended: u.Suspended, ExternalID: orNull(u.ExternalID), Labels: u.Labels,
		Managed: listed(u.Spec.Managed),
	}
	switch {
	case !u.Suspended:
	case u.Spec.SuspendedByAdmin:
		v.SuspendedBy = new("admin")
	default:
		v.SuspendedBy = new("operator")
	}
	return v
}

// suspends suspends or resumes a user. What the operator suspended, by a command or
// in the catalog, a tenant leaves as it is.
func (c *caller) suspends(u *catalog.UserSpec, suspend bool) error {
	switch {
	case c.operator(), !shutOut(u):
	case suspend:
		return nil
	default:
		return errShutOut
	}
	u.Suspended, u.SuspendedByAdmin = suspend, suspend && !c.operator()
	set(&u.Managed, suspended)
	return nil
}

// shutOut reports whether the operator suspended a user.
func shutOut(u *catalog.UserSpec) bool { return u.Suspended && !u.SuspendedByAdmin }

var errShutOut = refuse(http.StatusForbidden, "The operator suspended this user: only the operator resumes or deletes it; ask who runs this service")

// seesUser reports whether a user of the caller's workspace exists as far as the
// caller is concerned: for a member only itself does.
func (c *caller) seesUser(id string) bool { return !c.member || c.rec.User == id }

// isUser reports whether the presented key is a personal one of this user.
func (c *caller) isUser(workspace, id string) bool {
	return !c.operator() && c.rec.Kind == key.Personal && c.rec.Workspace == workspace && c.rec.User == id
}

func (a *api) listUsers(_ context.Context, c *call, _ none) ([]User, error) {
	ws, err := a.workspace(c.who, c.query.Get("workspace"))
	if err != nil {
		return nil, err
	}
	ids := slices.DeleteFunc(slices.Sorted(maps.Keys(ws.Users)), func(id string) bool { return !c.who.seesUser(id) })
	return page(c, "users of "+a.workspaceEver(ws.ID), ids, func(id string) (User, string) { return viewUser(ws.ID, ws.Users[id]), id })
}

func (a *api) showUser(_ context.Context, c *call, _ none) (User, error) {
	version := a.Tables().Version
	ws, err := a.workspace(c.who, c.query.Get("workspace"))
	if err != nil {
		return User{}, err
	}
	id := c.r.PathValue("id")
	u := ws.Users[id]
	if u == nil || !c.who.seesUser(id) {
		return User{}, errNoUser
	}
	c.header.Set("ETag", etag(version))
	return viewUser(ws.ID, u), nil
}

func (a *api) createUser(ctx context.Context, c *call, req UserRequest) (User, error) {
	named := c.query.Get("workspace")
	if req.Workspace != nil {
		if named != "" && named != *req.Workspace {
			return User{}, invalid("workspace", "the query and the body name different ones")
		}
		named = *req.Workspace
	}
	ws, err := a.workspace(c.who, named)
	if err != nil {
		return User{}, err
	}
	if err := c.who.administers(); err != nil {
		return User{}, err
	}
	if req.ID == "" || strings.HasPrefix(req.ID, ".") { // a path can't end in the latter
		return User{}, invalid("id", "is missing, or begins with a dot; choose one of 1 to 128 letters, digits and . _ @ : + = | -")
	}
	err = a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		if findWorkspace(doc, ws.ID) < 0 {
			return errNoWorkspace // deleted meanwhile
		}
		if findUser(doc, ws.ID, req.ID) >= 0 {
			return &Error{Status: http.StatusConflict, StatusMessage: http.StatusText(http.StatusConflict), ID: req.ID,
				Message: "id: there is a user of that id in this workspace; change it or choose another"}
		}
		u := catalog.UserSpec{ID: req.ID, Workspace: ws.ID, Managed: []string{catalog.Everything}}
		if err := req.apply(&u); err != nil {
			return err
		}
		doc.Users = append(doc.Users, u)
		return a.checked(doc, "users", len(doc.Users)-1)
	})
	if err != nil {
		return User{}, err
	}
	return a.userNow(c, ws.ID, req.ID)
}

// userNow tells a user after a change.
func (a *api) userNow(c *call, workspace, id string) (User, error) {
	u := a.Tables().User(workspace, id)
	if u == nil { // somebody removed it meanwhile
		return User{}, errNoUser
	}
	v := viewUser(workspace, u)
	c.is("user", id, workspace, v)
	return v, nil
}

// userWas finds a user that is about to be changed, and notes for the audit trail
// what it was.
func (a *api) userWas(c *call, doc *catalog.Catalog, workspace, id string) (int, error) {
	i := findUser(doc, workspace, id)
	if i < 0 {
		return 0, errNoUser
	}
	if was := a.Tables().User(workspace, id); was != nil {
		c.was("user", id, workspace, viewUser(workspace, was))
	}
	return i, nil
}

func findUser(doc *catalog.Catalog, workspace, id string) int {
	return slices.IndexFunc(doc.Users, func(u catalog.UserSpec) bool { return u.Workspace == workspace && u.ID == id })
}

func (a *api) updateUser(ctx context.Context, c *call, fields UserFields) (User, error) {
	return a.changeUser(ctx, c, fields.Role.Said, fields.apply)
}

func (f *UserFields) apply(u *catalog.UserSpec) error {
	f.Role.apply("role", &u.Role, &u.Managed)
	f.ExternalID.apply("externalId", &u.ExternalID, &u.Managed)
	return applyLabels(f.Labels, &u.Labels, &u.Managed)
}

// changeUser edits the user that the path names, if the caller sees it and may.
// rights says that the edit is of what the user may do, which nobody changes of
// themselves: else the last admin could shut everybody out.
func (a *api) changeUser(ctx context.Context, c *call, rights bool, edit func(*catalog.UserSpec) error) (User, error) {
	ws, id, err := a.userToChange(c, rights)
	if err != nil {
		return User{}, err
	}
	err = a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		i, err := a.userWas(c, doc, ws.ID, id)
		if err != nil {
			return err
		}
		if err := edit(&doc.Users[i]); err != nil {
			return err
		}
		return a.checked(doc, "users", i)
	})
	if err != nil {
		return User{}, err
	}
	a.Logger.Info("user changed", "workspace", ws.ID, "user", id, "by", c.who.name())
	return a.userNow(c, ws.ID, id)
}

func (a *api) userToChange(c *call, rights bool) (*catalog.Workspace, string, error) {
	ws, err := a.workspace(c.who, c.query.Get("workspace"))
	if err != nil {
		return nil, "", err
	}
	id := c.r.PathValue("id")
	if ws.Users[id] == nil || !c.who.seesUser(id) {
		return nil, "", errNoUser
	}
	if err := c.who.administers(); err != nil {
		return nil, "", err
	}
	if rights && c.who.isUser(ws.ID, id) {
		return nil, "", refuse(http.StatusForbidden, "Nobody suspends, deletes or changes the role of themselves; ask another admin, or the operator")
	}
	return ws, id, nil
}

func (a *api) deleteUser(ctx context.Context, c *call, _ none) (none, error) {
	ws, id, err := a.userToChange(c, true)
	if err != nil {
		return none{}, err
	}
	err = a.changeCatalog(ctx, c, func(doc *catalog.Catalog) error {
		i, err := a.userWas(c, doc, ws.ID, id)
		if err != nil {
			return err
		}
		if !c.who.operator() && shutOut(&doc.Users[i]) {
			return errShutOut // else one of the same id would be made in its place
		}
		doc.Users = slices.Delete(doc.Users, i, i+1)
		return nil
	})
	if err == nil {
		a.Logger.Info("user deleted", "workspace", ws.ID, "user", id, "by", c.who.name())
	}
	return none{}, err
}
