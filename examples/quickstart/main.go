// Quickstart is what `make run` starts: the upstream of an example, and
// `tollgate up --demo-key` in front of it with the catalog of that example. It
// stays in the foreground until Tollgate ends, passes signals on to it, and ends
// with its exit code; the upstream stops last.
//
// TOLLGATE_EXAMPLE names the example: a directory beside this one, quickstart where
// it names none. Flags go to `tollgate up` too, and so does the environment.
// TOLLGATE_CATALOG names another catalog, TOLLGATE_BIN another binary than the
// tollgate beside this one, TOLLGATE_DATA another data directory than .data, or
// .data-NAME for the example NAME.
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
)

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

	e, err := chosen()
	if err != nil {
		return 1, err
	}
	cmd, err := tollgate(e, args)
	if err != nil {
		return 1, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 1, fmt.Errorf("the upstream: %w", err)
	}
	secret := credential()
	report := func(wrong string) { fmt.Fprintln(os.Stderr, "quickstart: the upstream saw what it must not:", wrong) }
	server := &http.Server{Handler: e.upstream(secret, report), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(os.Stderr, "quickstart: the upstream:", err)
		}
	}()
	defer server.Close()
	cmd.Env = append(cmd.Env, upstreamEnv+"=http://"+l.Addr().String(), credentialEnv+"="+secret)

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

// tollgate is the command to run, without what it has to know of the upstream.
func tollgate(e example, args []string) (*exec.Cmd, error) {
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
		path := filepath.Join(dir, "..", e.catalog())
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no %s; name a catalog by TOLLGATE_CATALOG", path)
		}
		cmd.Env = append(cmd.Env, "TOLLGATE_CATALOG="+shortest(path))
	}
	if os.Getenv(dataEnv) == "" && e.data() != "" {
		cmd.Env = append(cmd.Env, dataEnv+"="+e.data())
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
