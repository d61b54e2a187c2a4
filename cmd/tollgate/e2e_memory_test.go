//go:build linux

package main_test

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testMemory opens 100 sockets, each with 15 MB of a body that never ends. Memory
// may grow by what a connection costs, and not by what is sent.
func testMemory(t *testing.T, b *bench) {
	const (
		sockets = 100
		size    = 15 << 20
		grows   = 64 // MiB; what is sent is 1500
	)
	g := startGate(t, b)
	k := g.key("--name", "memory")
	pids := map[string]int{"tollgate": g.cmd.Process.Pid, "Envoy": envoyOf(t, g.cmd.Process.Pid)}
	before := map[string]int{}
	for name, pid := range pids {
		before[name] = residentMiB(t, pid)
	}
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
	for name, request := range map[string]string{
		"no key":            head + fmt.Sprintf("Content-Length: %d\r\n\r\n", size+1),
		"a wrong key":       head + fmt.Sprintf("Authorization: Bearer sk-no-such-key\r\nContent-Length: %d\r\n\r\n", size+1),
		"no key, no length": head + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size+1),
	} {
		t.Run(name, func(t *testing.T) {
			peak := map[string]*atomic.Int64{"tollgate": {}, "Envoy": {}}
			done := make(chan struct{})
			var watch, flood sync.WaitGroup
			watch.Go(func() {
				for {
					for name, pid := range pids {
						if now := int64(residentMiB(t, pid)); now > peak[name].Load() {
							peak[name].Store(now)
						}
					}
					select {
					case <-done:
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			})
			body := make([]byte, 1<<20)
			hold := make(chan struct{})
			var sent sync.WaitGroup
			for range sockets {
				sent.Add(1)
				flood.Go(func() {
					told := sync.OnceFunc(sent.Done)
					defer told()
					conn, err := net.Dial("tcp", g.gateway)
					if err != nil {
						t.Error(err)
						return
					}
					defer conn.Close()
					_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
					if _, err := conn.Write([]byte(request)); err != nil {
						return
					}
					// Sends until it is all out, or nobody takes any more.
					for range size / len(body) {
						if _, err := conn.Write(body); err != nil {
							return
						}
					}
					told()
					<-hold
				})
			}
			sent.Wait()
			close(hold)
			flood.Wait()
			close(done)
			watch.Wait()
			for name := range pids {
				got := int(peak[name].Load())
				t.Logf("%s: %d MiB before, at most %d", name, before[name], got)
				if got > before[name]+grows {
					t.Errorf("%s grew from %d to %d MiB", name, before[name], got)
				}
			}
			if res := g.chat(k.Key, chatBody(chatModel, "")); res.status != 200 {
				t.Errorf("a valid caller afterwards: %v", res)
			}
		})
	}
}
