package dialect

// Name is what a path is called where it is written down: its method and pattern,
// such as "POST /v1/embeddings". PathOf finds it again.
func (p *Path) Name() string {
	if known, ok := paths.known[p]; ok {
		return known.name
	}
	return p.Method + " " + p.Pattern
}

// Watched are the members of the answer that the settlement needs, as dotted names from
// the top of its JSON (base_resp.status_code), each once. Most paths have none. Nobody
// changes them.
func (p *Path) Watched() []string {
	if known, ok := paths.known[p]; ok {
		return known.watched
	}
	return p.watched()
}

// PathOf returns the path of a dialect that has this Name; nil where there is none,
// such as one that only another version of Tollgate knows.
func PathOf(dialect, name string) *Path { return paths.byName[pathID{dialect, name}] }

type pathID struct{ dialect, name string }

// pathFacts is what follows from a path and is asked for at each check.
type pathFacts struct {
	name    string
	watched []string
}

// paths are those of all dialects, so that no check makes anew what is always the same.
var paths = func() (all struct {
	known  map[*Path]pathFacts
	byName map[pathID]*Path
}) {
	all.known, all.byName = map[*Path]pathFacts{}, map[pathID]*Path{}
	for _, d := range dialects {
		for i := range d.Paths {
			p := &d.Paths[i]
			name := p.Method + " " + p.Pattern
			all.known[p], all.byName[pathID{d.Name, name}] = pathFacts{name, p.watched()}, p
		}
	}
	return all
}()
