// Quickstart is what `make run` starts: the example model backend, and
// `tollgate up --demo-key` in front of it with the catalog beside this file. It
// stays in the foreground until Tollgate ends, passes signals on to it, and ends
// with its exit code; the backend stops last.
//
// Flags go to `tollgate up` too, and so does the environment. TOLLGATE_CATALOG
// names another catalog, TOLLGATE_BIN another binary than the tollgate beside
// this one.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"tollgate/examples/backend"
)

// catalog is where the default catalog is, from the directory above this binary.
const catalog = "examples/quickstart/catalog.yaml"

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
	}
	os.Exit(code)
}

// run starts everything and returns the exit code when all of it has ended.
func run(args []string) (int, error) {
	// Before anything is started: from here on a signal is not lost.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	cmd, err := tollgate(args)
	if err != nil {
		return 1, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1, fmt.Errorf("the model backend: %w", err)
	}
	server := &http.Server{Handler: backend.New(backend.Options{}), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "quickstart: the model backend:", err)
		}
	}()
	defer server.Close()
	cmd.Env = append(cmd.Env, "QUICKSTART_BACKEND=http://"+l.Addr().String())

	// Linux sends the child's parent-death signal when the thread that started it
	// ends, so this thread has to last as long as the process.
	runtime.LockOSThread()
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("can't start tollgate: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			// A terminal that goes away is no reason to leave anything behind.
			if s == syscall.SIGHUP {
				s = syscall.SIGTERM
			}
			if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return 1, fmt.Errorf("can't pass %v on to tollgate: %w", s, err)
			}
		case err := <-ended:
			return exitCode(cmd.ProcessState, err)
		}
	}
}

// tollgate is the command to run, without the backend's address.
func tollgate(args []string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(self)
	bin := os.Getenv("TOLLGATE_BIN")
	if bin == "" {
		bin = filepath.Join(dir, "tollgate")
	}
	cmd := exec.Command(bin, append([]string{"up", "--demo-key"}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	cmd.Env = os.Environ()
	cmd.SysProcAttr = childAttributes()
	if os.Getenv("TOLLGATE_CATALOG") == "" {
		path := filepath.Join(dir, "..", catalog)
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s; name a catalog by TOLLGATE_CATALOG", path)
		}
		cmd.Env = append(cmd.Env, "TOLLGATE_CATALOG="+shortest(path))
	}
	return cmd, nil
}

// shortest is the path from the working directory where that is shorter, because
// error messages name it.
func shortest(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rel, err := filepath.Rel(wd, path); err == nil && len(rel) < len(path) {
			return rel
		}
	}
	return path
}

// exitCode is the child's, or as a shell has it when a signal ended it.
func exitCode(state *os.ProcessState, err error) (int, error) {
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return 1, err
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), fmt.Errorf("tollgate was ended by a signal: %v", status.Signal())
	}
	return state.ExitCode(), nil
}
