package natstest

import (
	"os"
	"path/filepath"
)

// Save copies what the stopped servers have stored, and returns where to.
func (c *Cluster) Save() (saved string) {
	c.t.Helper()
	saved = c.t.TempDir()
	for _, p := range c.processes {
		c.copyStore(p, filepath.Join(p.dir, "jetstream"), filepath.Join(saved, p.name))
	}
	return saved
}

// Load gives the stopped servers what Save saved, in place of what they have.
func (c *Cluster) Load(saved string) {
	c.t.Helper()
	for i, p := range c.processes {
		c.Wipe(i)
		c.copyStore(p, filepath.Join(saved, p.name), filepath.Join(p.dir, "jetstream"))
	}
}

func (c *Cluster) copyStore(p *process, from, to string) {
	c.t.Helper()
	if p.lives() {
		c.t.Fatalf("%s still runs", p.name)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		c.t.Fatal(err)
	}
}
