package freeaddr

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// childEnv makes the test's binary a process of its own that says whether a port can
// be had.
const childEnv = "FREEADDR_TEST_WANTS"

func TestMain(m *testing.M) {
	if port, err := strconv.Atoi(os.Getenv(childEnv)); err == nil {
		fmt.Println(reserve(port))
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// had asks another process whether it gets a port.
func had(t *testing.T, port int) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", childEnv+"="+strconv.Itoa(port))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Contains(string(out), "true")
}

// What is taken is nobody else's, also while nothing listens at it and however much
// garbage is collected; to listen at it is free, time and again.
func TestTakenOnce(t *testing.T) {
	addr := Take(t)
	port := 0
	for range 3 {
		runtime.GC()
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		port = l.Addr().(*net.TCPAddr).Port
		l.Close()
	}
	if reserve(port) {
		t.Error("taken twice by one process")
	}
	if had(t, port) {
		t.Error("another process gets it too")
	}
}

// What somebody listens at is given to nobody.
func TestListenedAt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if port := l.Addr().(*net.TCPAddr).Port; reserve(port) || had(t, port) {
		t.Error("an address is given out at which somebody listens")
	}
}

func TestTakeConcurrently(t *testing.T) {
	var all sync.Map
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			for range 20 {
				addr := Take(t)
				if _, before := all.LoadOrStore(addr, true); before {
					t.Errorf("%s twice", addr)
				}
			}
		})
	}
	done.Wait()
}

func TestReachable(t *testing.T) {
	for low, want := range map[int]int{32_768: lowest, 60_000: lowest, end: lowest, 16_000: 4_000, 1024: lowest, 0: lowest} {
		if got := reachable(low); got != want {
			t.Errorf("from %d where the system begins at %d, not from %d", got, low, want)
		}
	}
}
