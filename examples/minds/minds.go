// Package minds stands in for Minds: minds and flows that are made, listed, run and
// deleted. Who may have how many is not its business: that is the plan's.
package minds

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"sync"

	"tollgate/examples/standin"
)

// keys is Minds' format of a key.
var keys = regexp.MustCompile(`minds_[0-9a-f]{48}`)

// New makes the stand-in, which has no credential of its own. report is told of what
// must not reach it.
func New(_ string, report func(wrong string)) http.Handler {
	mux := http.NewServeMux()
	for _, kind := range []string{"mind", "flow"} {
		(&collection{kind: kind, made: map[string]thing{}}).serve(mux)
	}
	return &standin.Strict{Keys: keys, Report: report, Service: mux}
}

// thing is a mind or a flow.
type thing struct {
	ID   string `json:"id"`
	Name string `json:"name"`

	workspace string // as Tollgate told it
}

// collection is all minds, or all flows, of all tenants.
type collection struct {
	kind string

	mu   sync.Mutex
	last int              // guarded by mu; the number of the newest
	made map[string]thing // guarded by mu; by id
}

func (c *collection) serve(mux *http.ServeMux) {
	base := "/api/v1/" + c.kind + "s"
	mux.HandleFunc("POST "+base, c.create)
	mux.HandleFunc("GET "+base, c.list)
	mux.HandleFunc("GET "+base+"/{id}", c.show)
	mux.HandleFunc("DELETE "+base+"/{id}", c.remove)
	mux.HandleFunc("POST "+base+"/{id}/{verb}", c.run)
}

func (c *collection) create(w http.ResponseWriter, r *http.Request) {
	t := thing{workspace: r.Header.Get(workspaceHeader)}
	if err := json.NewDecoder(r.Body).Decode(&t); err != nil || t.Name == "" {
		refuse(w, http.StatusBadRequest, "name is missing")
		return
	}
	c.mu.Lock()
	c.last++
	t.ID = fmt.Sprintf("%s-%d", c.kind, c.last)
	c.made[t.ID] = t
	c.mu.Unlock()
	standin.JSON(w, http.StatusCreated, t)
}

// workspaceHeader is how an upstream knows who asks.
const workspaceHeader = "X-Tollgate-Workspace"

// list has what the workspace made. The paths that name one leave it to Tollgate to
// see whose it is.
func (c *collection) list(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	all := make([]thing, 0, len(c.made))
	for _, id := range slices.Sorted(maps.Keys(c.made)) {
		if t := c.made[id]; t.workspace == r.Header.Get(workspaceHeader) {
			all = append(all, t)
		}
	}
	c.mu.Unlock()
	standin.JSON(w, http.StatusOK, all)
}

func (c *collection) show(w http.ResponseWriter, r *http.Request) {
	if t, ok := c.find(w, r); ok {
		standin.JSON(w, http.StatusOK, t)
	}
}

func (c *collection) run(w http.ResponseWriter, r *http.Request) {
	if t, ok := c.find(w, r); ok {
		standin.JSON(w, http.StatusOK, map[string]string{"id": t.ID, "answer": t.Name + " has thought about it"})
	}
}

func (c *collection) remove(w http.ResponseWriter, r *http.Request) {
	if t, ok := c.find(w, r); ok {
		c.mu.Lock()
		delete(c.made, t.ID)
		c.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}
}

// find is the one that the path names; where there is none, the answer is written.
func (c *collection) find(w http.ResponseWriter, r *http.Request) (thing, bool) {
	c.mu.Lock()
	t, ok := c.made[r.PathValue("id")]
	c.mu.Unlock()
	if !ok {
		refuse(w, http.StatusNotFound, "there is no such "+c.kind)
	}
	return t, ok
}

func refuse(w http.ResponseWriter, status int, message string) {
	standin.JSON(w, status, map[string]any{"statusCode": status, "statusMessage": http.StatusText(status), "message": message})
}
