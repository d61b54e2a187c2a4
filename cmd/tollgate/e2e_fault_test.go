//go:build linux

package main_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// faultBound is the revocation bound of these tests: a little more than a cluster
// takes to elect a leader.
const faultBound = 7 * time.Second

// testFaults breaks one part after the other of a running deployment, while
// requests go on at every replica and keys are revoked at one that is well. For
// each fault it counts what was accepted after its revocation was certain, which
// must be nothing; how many requests with a valid key were refused, and for how
// long; and the usage events that are missing or there twice.
func testFaults(t *testing.T, b *bench) {
	d := newDeployment(t, b, 3, faultBound, false)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\trevoked\tchecked after\taccepted\tvalid\trefused\tlongest\tevents lost\ttwice")
	defer func() {
		_ = w.Flush()
		t.Logf("\n%s", table.String())
	}()
	follower := func() int { return (d.nats.Leader("KV_TOLLGATE_KEYS") + 1) % 3 }
	var node int
	for _, f := range []struct {
		name   string
		break_ func()
		mend   func()
		lasts  time.Duration
		at     int // the replica at which keys are revoked
	}{
		{"a NATS follower is cut off", func() { node = follower(); d.nats.Isolate(node) }, func() { d.nats.Heal(node) }, 10 * time.Second, 0},
		{"the NATS leader of the keys is killed", func() { node = d.nats.Leader("KV_TOLLGATE_KEYS"); d.nats.Kill9(node) }, func() { d.nats.Restart(node) }, 10 * time.Second, 0},
		{"the NATS server is killed that has a replica's consumer", func() { node = d.consumerHost(t); d.nats.Kill9(node) }, func() { d.nats.Restart(node) }, 10 * time.Second, 0},
		{"a replica is cut off", func() { d.replicas[2].cut() }, func() { d.replicas[2].heal() }, faultBound + 5*time.Second, 0},
		{"a replica is killed", func() { d.replicas[2].kill() }, func() { d.replicas[2].start("serve") }, 5 * time.Second, 0},
		{"a replica is stopped for longer than the bound", func() { d.replicas[2].signal(syscall.SIGSTOP) }, func() { d.replicas[2].signal(syscall.SIGCONT) }, faultBound + 4*time.Second, 0},
		{"NATS is slow by 500 ms", func() { d.each(func(r *replica) { r.slow(250 * time.Millisecond) }) }, func() { d.each(func(r *replica) { r.slow(0) }) }, 10 * time.Second, 0},
	} {
		t.Run(f.name, func(t *testing.T) {
			run := d.measure(t, f.at)
			f.break_()
			time.Sleep(f.lasts) // the fault's length, not a wait for something
			f.mend()
			run.finish(t)
			fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%v\t%d\t%d\n", f.name, run.revoked, run.probes, run.accepted,
				run.valid, run.refused, run.longest.Round(100*time.Millisecond), run.lost, run.twice)
			if run.accepted != 0 || run.lost != 0 || run.twice != 0 {
				t.Errorf("accepted after revocation %d, events lost %d, twice %d; each must be 0", run.accepted, run.lost, run.twice)
			}
			if run.revoked == 0 || run.probes == 0 || run.valid == 0 {
				t.Errorf("%d keys revoked, %d checks after, %d valid requests: the test shows nothing", run.revoked, run.probes, run.valid)
			}
		})
	}
}

// consumerHost is the NATS server that has a replica's consumer of the keys.
func (d *deployment) consumerHost(t *testing.T) (host int) {
	t.Helper()
	nc, err := nats.Connect(d.nats.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "a consumer", func() error {
		stream, err := js.Stream(t.Context(), "KV_TOLLGATE_KEYS")
		if err != nil {
			return err
		}
		for c := range stream.ListConsumers(t.Context()).Info() {
			if c.Cluster == nil {
				continue
			}
			for i := range d.nats.Len() {
				if c.Cluster.Leader == fmt.Sprintf("n%d", i) {
					host = i
					return nil
				}
			}
		}
		return errors.New("none")
	})
	return host
}

func (d *deployment) each(f func(*replica)) {
	for _, r := range d.replicas {
		f(r)
	}
}

// run is one measurement. Its counts are final after finish.
type run struct {
	d  *deployment
	at *replica // where keys are revoked

	stop, enough     chan struct{} // end the revocations; end everything else
	revoking, others sync.WaitGroup

	mu       sync.Mutex      // guards what follows
	passed   map[string]bool // requests that were answered with 200
	revoked  int             // keys
	probes   int             // requests with a key whose revocation was certain
	accepted int             // of them
	valid    int             // requests with a valid key
	refused  int             // of them
	longest  time.Duration   // for which a replica refused them
	lost     int
	twice    int
}

// make makes a key as key does, without a process for each.
func (r *replica) make(name string) newKey {
	r.t.Helper()
	res := r.try(http.MethodPost, "http://"+r.api+"/api/v1/api-keys", operatorOfTests, fmt.Sprintf(`{"name":%q}`, name))
	if res.status != http.StatusCreated {
		r.t.Fatalf("making a key: %v", res)
	}
	k := decodeJSON[newKey](r.t, res.body)
	r.keys.add(k.Key)
	return k
}

// measure begins requests at all replicas, and revocations at one of them.
func (d *deployment) measure(t *testing.T, at int) *run {
	t.Helper()
	r := &run{d: d, at: d.replicas[at], stop: make(chan struct{}), enough: make(chan struct{}), passed: map[string]bool{}}
	steady := r.at.make("steady")
	const victims = 32
	keys := make([]newKey, victims)
	for i := range keys {
		keys[i] = r.at.make(fmt.Sprintf("victim %d", i))
	}
	for _, one := range d.replicas { // all are in memory everywhere
		for _, k := range slices.Concat(keys, []newKey{steady}) {
			within(t, time.Minute, "the key passes everywhere", func() error {
				if res := r.pass(one, k.Key); res.status != http.StatusOK {
					return fmt.Errorf("%v", res)
				}
				return nil
			})
		}
		r.others.Go(func() { r.load(one, steady.Key) })
	}
	r.revoking.Go(func() {
		for _, k := range keys {
			select {
			case <-r.stop:
				return
			case <-time.After(300 * time.Millisecond): // the pace of revocations
			}
			r.revoke(k)
		}
	})
	return r
}

// pass sends a request and notes it if it was answered.
func (r *run) pass(one *replica, key string) answer {
	res := one.chat(key, chatBody(chatModel, ""))
	if res.status == http.StatusOK {
		r.mu.Lock()
		r.passed[res.header.Get("x-request-id")] = true
		r.mu.Unlock()
	}
	return res
}

// load sends requests with a valid key until the end.
func (r *run) load(one *replica, key string) {
	var since time.Time // of the first refusal in a row
	for {
		select {
		case <-r.enough:
			return
		case <-time.After(25 * time.Millisecond): // the pace of requests
		}
		began := time.Now()
		res := r.pass(one, key)
		r.mu.Lock()
		r.valid++
		if res.status == http.StatusOK {
			since = time.Time{}
		} else {
			r.refused++
			if since.IsZero() {
				since = began
			}
			r.longest = max(r.longest, time.Since(since))
		}
		r.mu.Unlock()
		if res.status == http.StatusUnauthorized {
			r.d.t.Errorf("a valid key was called invalid at %s: %v", one.gateway, res)
		}
	}
}

// revoke revokes a key and then tries it everywhere, from when its revocation is
// certain until the end.
func (r *run) revoke(k newKey) {
	res := r.at.try(http.MethodDelete, "http://"+r.at.api+"/api/v1/api-keys/"+k.ID, operatorOfTests, "")
	if res.status != http.StatusNoContent {
		return // it may or may not be revoked: nothing was promised
	}
	certain := time.Now()
	if at := res.header.Get("x-tollgate-certain-at"); at != "" {
		told, err := time.Parse(time.RFC3339, at)
		if err != nil {
			r.d.t.Errorf("x-tollgate-certain-at: %v", err)
		}
		certain = told
	}
	r.mu.Lock()
	r.revoked++
	r.mu.Unlock()
	for _, one := range r.d.replicas {
		r.others.Go(func() {
			select {
			case <-r.enough:
				return
			case <-time.After(time.Until(certain)):
			}
			for {
				res := r.pass(one, k.Key)
				r.mu.Lock()
				r.probes++
				if res.status == http.StatusOK {
					r.accepted++
				}
				r.mu.Unlock()
				select {
				case <-r.enough:
					return
				case <-time.After(250 * time.Millisecond): // the pace of probes
				}
			}
		})
	}
}

// finish waits until all replicas are well again, ends the requests, and counts
// events.
func (r *run) finish(t *testing.T) {
	t.Helper()
	for _, one := range r.d.replicas {
		one.waitReady()
	}
	within(t, time.Minute, "revoking", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.revoked < 3 {
			return fmt.Errorf("%d keys are revoked", r.revoked)
		}
		return nil
	})
	close(r.stop)
	r.revoking.Wait()
	time.Sleep(time.Second) // for probes of the last revocations
	close(r.enough)
	r.others.Wait()
	var times map[string]int
	count := func() (missing int) {
		for id := range r.passed {
			if times[id] == 0 {
				missing++
			}
		}
		return missing
	}
	within(t, time.Minute, "an event of each request", func() (err error) {
		if times, err = r.at.usage(); err != nil {
			return err
		}
		if n := count(); n > 0 {
			return fmt.Errorf("%d of %d have none", n, len(r.passed))
		}
		return nil
	})
	r.lost = count()
	for _, n := range times {
		if n > 1 {
			r.twice++
		}
	}
}
