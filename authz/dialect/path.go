package dialect

// Name is what a path is called where it is written down: its method and pattern,
// such as "POST /v1/embeddings". PathOf finds it again.
func (p *Path) Name() string {
	if name, ok := pathNames.names[p]; ok {
		return name
	}
	return p.Method + " " + p.Pattern
}

// PathOf returns the path of a dialect that has this Name; nil where there is none,
// such as one that only another version of Tollgate knows.
func PathOf(dialect, name string) *Path { return pathNames.paths[pathID{dialect, name}] }

type pathID struct{ dialect, name string }

// pathNames are the paths of all dialects, so that neither way needs memory.
var pathNames = func() (n struct {
	names map[*Path]string
	paths map[pathID]*Path
}) {
	n.names, n.paths = map[*Path]string{}, map[pathID]*Path{}
	for _, d := range dialects {
		for i := range d.Paths {
			p := &d.Paths[i]
			name := p.Method + " " + p.Pattern
			n.names[p], n.paths[pathID{d.Name, name}] = name, p
		}
	}
	return n
}()
