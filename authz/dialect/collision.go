package dialect

import "strings"

// Collision finds a path of each of two dialects that one request could be for, and
// that no header tells apart; nil, nil where there are none.
func Collision(a, b *Dialect) (p, q *Path) {
	for i := range a.Paths {
		for j := range b.Paths {
			if p, q = &a.Paths[i], &b.Paths[j]; p.collides(q) {
				return p, q
			}
		}
	}
	return nil, nil
}

// collides may be wrong about two patterns that both vary: then it says that they
// collide.
func (p *Path) collides(q *Path) bool {
	if p.Method != q.Method || p.Header != q.Header {
		return false
	}
	before, after, varies := p.split()
	otherBefore, otherAfter, otherVaries := q.split()
	switch {
	case !varies && !otherVaries:
		return p.Pattern == q.Pattern
	case !varies:
		_, ok := q.match(p.Pattern)
		return ok
	case !otherVaries:
		_, ok := p.match(q.Pattern)
		return ok
	}
	return (strings.HasPrefix(before, otherBefore) || strings.HasPrefix(otherBefore, before)) &&
		(strings.HasSuffix(after, otherAfter) || strings.HasSuffix(otherAfter, after))
}

// split is what a pattern has before and behind the part that varies.
func (p *Path) split() (before, after string, varies bool) {
	before, rest, varies := strings.Cut(p.Pattern, "{")
	_, after, _ = strings.Cut(rest, "}")
	return before, after, varies
}
