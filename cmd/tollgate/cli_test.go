package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"tollgate/authz/manage"
	"tollgate/authz/manage/managetest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tollgate": main})
}

const cliCatalog = `
workspaces: [{id: demo, plan: open}]
users: [{id: ada, workspace: demo}]
plans: [{id: open}]
models:
  - {id: meta/one, upstreams: [{url: "http://127.0.0.1:9100"}]}
  - {id: meta/two, deployed: false}
`

// apiOn serves the management API of a store.
func apiOn(t *testing.T, store *managetest.Store) http.Handler {
	t.Helper()
	cfg := store.Config()
	cfg.Logger = slog.New(slog.DiscardHandler)
	h, err := manage.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestScripts runs the command line against an API of its own for each script.
// Beside testscript's commands a script has "event JSON", which stores a usage
// event, "used JSON", which adds a managetest.Usage to the totals, and "member VAR NAME", which puts a member of the JSON on standard
// output into the environment.
func TestScripts(t *testing.T) {
	type storeKey struct{}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			store := managetest.NewStore(t, cliCatalog)
			server := httptest.NewServer(apiOn(t, store))
			env.Defer(server.Close)
			env.Values[storeKey{}] = store
			data := filepath.Join(env.WorkDir, "data")
			if err := os.Mkdir(data, 0o700); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(data, operatorKeyFile), []byte(managetest.OperatorKey+"\n"), 0o600); err != nil {
				return err
			}
			addr := strings.TrimPrefix(server.URL, "http://")
			running := fmt.Sprintf(`{"gateway":"127.0.0.1:1","api":%q,"grpc":"127.0.0.1:1","metrics":"127.0.0.1:1"}`, addr)
			if err := os.WriteFile(filepath.Join(data, addressesFile), []byte(running), 0o600); err != nil {
				return err
			}
			env.Setenv("TOLLGATE_DATA", data)
			env.Setenv("ADDR", addr)
			env.Setenv("OPERATOR", managetest.OperatorKey)
			env.Setenv("BIDI", "\u202e")
			env.Setenv("BROKEN", "\xff")
			env.Setenv("GORACE", "atexit_sleep_ms=0") // else each process takes a second to end
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"event": func(ts *testscript.TestScript, _ bool, args []string) {
				ts.Value(storeKey{}).(*managetest.Store).AddEvent(args[0])
			},
			"used": func(ts *testscript.TestScript, _ bool, args []string) {
				var u managetest.Usage
				ts.Check(json.Unmarshal([]byte(args[0]), &u))
				ts.Value(storeKey{}).(*managetest.Store).AddUsage(u)
			},
			"member": func(ts *testscript.TestScript, _ bool, args []string) {
				var object map[string]any
				ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &object))
				value, ok := object[args[1]].(string)
				if !ok {
					ts.Fatalf("standard output has no string %s", args[1])
				}
				ts.Setenv(args[0], value)
			},
			"exitcode": func(ts *testscript.TestScript, _ bool, args []string) {
				err := ts.Exec(args[1], args[2:]...)
				if err == nil && args[0] == "0" {
					return
				}
				if got := fmt.Sprint(err); got != "exit status "+args[0] {
					ts.Fatalf("%s, not exit status %s", got, args[0])
				}
			},
		},
	})
}

// TestTail follows events over a restart of the server, and ends with its
// context.
func TestTail(t *testing.T) {
	store := managetest.NewStore(t, cliCatalog)
	h := apiOn(t, store)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	server := &http.Server{Handler: h}
	go server.Serve(l)
	t.Setenv("TOLLGATE_API_ADDR", addr)
	t.Setenv("TOLLGATE_OPERATOR_KEY", managetest.OperatorKey)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		root := newRoot()
		root.SetArgs([]string{"events", "tail", "-o", "json"})
		root.SetOut(in)
		root.SetErr(io.Discard)
		ended <- root.ExecuteContext(ctx)
	}()
	lines := make(chan string)
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("tail printed %s, want %s", got, want)
			}
		case err := <-ended:
			t.Fatalf("tail ended: %v", err)
		case <-time.After(time.Minute):
			t.Fatalf("tail did not print %s", want)
		}
	}
	store.AddEvent(`{"id": "1",` + "\n" + `"n": 1.10}`)
	expect(`{"id":"1","n":1.10}`)
	store.AddEvent(`{"id":"2"}`)
	expect(`{"id":"2"}`)
	server.Close()
	store.AddEvent(`{"id":"3"}`)
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatal(err)
	}
	server = &http.Server{Handler: h}
	go server.Serve(l)
	defer server.Close()
	expect(`{"id":"3"}`)
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Ctrl-C is an error: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("Ctrl-C does not end tail")
	}
}

func TestDialable(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8081": "127.0.0.1:8081", ":8081": "127.0.0.1:8081", "0.0.0.0:8081": "127.0.0.1:8081",
		"[::]:8081": "[::1]:8081", "gate.example:80": "gate.example:80", "https://gate.example": "https://gate.example",
	} {
		if got, ok := dialable(addr); got != want || !ok {
			t.Errorf("%s: %s %t", addr, got, ok)
		}
	}
	if _, ok := dialable("127.0.0.1:0"); ok {
		t.Error("port 0 can be dialled")
	}
}
