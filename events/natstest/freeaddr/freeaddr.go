// Package freeaddr gives tests addresses to listen at, or at which nobody listens.
package freeaddr

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
)

// The ports that are tried: below those that systems give by themselves to outgoing
// connections and to listeners at port 0 (Linux begins at 32768).
const lowest, end = 20_000, 32_000

// kept are the sockets that hold addresses until the process ends: one that nothing
// refers to is closed by the garbage collector.
var (
	keeping sync.Mutex
	kept    []*net.UDPConn
)

// Take returns a loopback address at which nobody listens, and which no later call
// returns, of this process or of another, until this process ends: tests of several
// packages run side by side, and restart what they test at the address that it had. It
// fails the test if there is none. Safe for concurrent use.
func Take(t testing.TB) string {
	t.Helper()
	from := reachable(systemsLowest())
	for range 1000 {
		port := from + rand.IntN(end-lowest)
		if reserve(port) {
			return address(port)
		}
	}
	t.Fatalf("no port is free from %d to %d", from, from+end-lowest)
	return ""
}

// reserve takes a port for as long as the process lives, unless it is in use. What
// holds it is the UDP socket of its number: those of TCP are counted apart.
func reserve(port int) bool {
	held, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp4", address(port))
	if err != nil || l.Close() != nil {
		_ = held.Close()
		return false
	}
	keeping.Lock()
	defer keeping.Unlock()
	kept = append(kept, held)
	return true
}

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// reachable is the first of the ports that are tried where the first that the system
// gives by itself is low: some sandboxes begin at 16000.
func reachable(low int) int {
	if below := low - (end - lowest); low < end && below > 1024 {
		return below
	}
	return lowest
}

// systemsLowest is the first port that the system gives by itself, as far as it says.
func systemsLowest() int {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return end
	}
	var low int
	if _, err := fmt.Sscan(string(text), &low); err != nil {
		return end
	}
	return low
}
