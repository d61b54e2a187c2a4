package natstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// WaitReady waits until all servers that run, are not paused and not isolated say
// that they are healthy (they have a leader, and their streams are recovered and
// current) and the leader says of each that it is there, so that streams can be
// placed. It fails the test after a minute.
func (c *Cluster) WaitReady() {
	c.t.Helper()
	var last error
	c.eventually(func() bool {
		last = nil
		for _, i := range c.present() {
			if err := c.ask(i, "/healthz", nil); err != nil {
				last = err
			}
		}
		if last == nil && len(c.processes) > 1 {
			last = c.meet()
		}
		return last == nil
	}, func() string { return fmt.Sprintf("the cluster was not ready: %v", last) })
}

// meet asks the leader of the cluster whether it sees all the others that are
// there.
func (c *Cluster) meet() error {
	present := c.present()
	for _, i := range present {
		var state struct {
			Meta struct {
				Leader   string `json:"leader"`
				Replicas []struct {
					Name    string `json:"name"`
					Current bool   `json:"current"`
					Offline bool   `json:"offline"`
				} `json:"replicas"`
			} `json:"meta_cluster"`
		}
		if err := c.ask(i, "/jsz", &state); err != nil {
			return err
		}
		if state.Meta.Leader != c.processes[i].name {
			continue
		}
		seen := 1
		for _, r := range state.Meta.Replicas {
			if r.Current && !r.Offline {
				seen++
			}
		}
		if seen < len(present) {
			return fmt.Errorf("%s leads and sees %d of %d servers", c.processes[i].name, seen, len(present))
		}
		return nil
	}
	return errors.New("no server leads")
}

// Leader is which server leads a stream; it waits until one of those does that
// run, are not paused and not isolated, and fails the test after a minute.
func (c *Cluster) Leader(stream string) int {
	c.t.Helper()
	leader := -1
	c.eventually(func() bool {
		for _, i := range c.present() {
			if c.leads(i, stream) {
				leader = i
			}
		}
		return leader >= 0
	}, func() string { return "no leader of the stream " + stream })
	return leader
}

// leads reports whether a server takes itself for a stream's leader.
func (c *Cluster) leads(i int, stream string) bool {
	var state struct {
		Accounts []struct {
			Streams []struct {
				Name    string `json:"name"`
				Cluster struct {
					Leader string `json:"leader"`
				} `json:"cluster"`
			} `json:"stream_detail"`
		} `json:"account_details"`
	}
	if err := c.ask(i, "/jsz?accounts=true&streams=true", &state); err != nil {
		return false
	}
	for _, a := range state.Accounts {
		for _, s := range a.Streams {
			if s.Name == stream && (s.Cluster.Leader == c.processes[i].name || len(c.processes) == 1) {
				return true
			}
		}
	}
	return false
}

// present are the servers that can be asked and know how things are.
func (c *Cluster) present() []int {
	c.t.Helper()
	var present []int
	for i, p := range c.processes {
		if p.cmd != nil && !p.lives() {
			c.t.Fatalf("%s ended by itself", p.name)
		}
		if p.lives() && !p.paused && !c.isolated[i] {
			present = append(present, i)
		}
	}
	return present
}

// ask puts a question to a server's monitoring.
func (c *Cluster) ask(i int, path string, answer any) error {
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, "http://"+c.processes[i].monitor+path, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", c.processes[i].name, response.Status)
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

func (c *Cluster) eventually(ok func() bool, otherwise func() string) {
	c.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatal(otherwise())
		}
	}
}
