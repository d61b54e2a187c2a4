package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
)

// An address is where one listener of ours, or Envoy's, is bound.
type address struct {
	name  string // for messages: "gateway"
	flag  string // --gateway-addr
	env   string // TOLLGATE_GATEWAY_ADDR
	value string // host:port
	given bool   // by flag or environment: then it is this one or an error
	// listener holds the port; nil for the gateway, which Envoy binds.
	listener net.Listener
}

// Defaults where nothing at all is given.
const (
	defaultGateway = "127.0.0.1:8080"
	defaultAPI     = "127.0.0.1:8081"
)

// lastPort ends the search for a free port: above it, Linux hands ports to
// outgoing connections.
const lastPort = 32767

// bind binds every address. One that is given is bound as it is or is an error.
// Where none is given, the gateway and the API have their defaults, or it is an
// error too: a command line that looks for them there must not find a stranger.
// The rest get the next free ports after the last bound one, so that two Tollgates
// that were given only a gateway each don't meet. beside is an address that was
// given and that somebody else binds, or "". Nothing stays bound after an error.
func bind(all []*address, beside string) (err error) {
	defer func() {
		if err != nil {
			for _, a := range all {
				if a.listener != nil {
					a.listener.Close()
				}
			}
		}
	}()
	anyGiven := beside != ""
	for _, a := range all {
		anyGiven = anyGiven || a.given
	}
	if !anyGiven {
		for _, a := range all {
			switch a.name {
			case "gateway":
				a.value, a.given = defaultGateway, true
			case "api":
				a.value, a.given = defaultAPI, true
			}
		}
	}
	last := beside
	for _, a := range all {
		if a.given {
			if err := a.open(); err != nil {
				return err
			}
			if last == "" {
				last = a.value
			}
		}
	}
	for _, a := range all {
		if a.given {
			continue
		}
		if err := a.next(last); err != nil {
			return err
		}
		last = a.value
	}
	for _, a := range all {
		if a.name == "gateway" { // Envoy's, which is started last
			a.listener.Close()
			a.listener = nil
		}
	}
	return nil
}

// check refuses a given address that nothing can listen on.
func (a *address) check() error {
	if !a.given {
		return nil
	}
	_, port, err := net.SplitHostPort(a.value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s (%s) takes HOST:PORT such as 127.0.0.1:8080, not %q", a.flag, a.env, a.value)
	}
	return nil
}

func (a *address) open() error {
	l, err := net.Listen("tcp", a.value)
	if err != nil {
		return fmt.Errorf("can't listen on %s for the %s: %w; free the port, or choose another by %s or %s", a.value, a.name, unwrapNet(err), a.flag, a.env)
	}
	// The host as it was given: Go would say [::] for 0.0.0.0.
	host, _, err := net.SplitHostPort(a.value)
	if err != nil {
		return err
	}
	a.listener = l
	a.value = net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	return nil
}

// loopback is the host of every address that isn't given: a gateway for everybody
// does not make the management API one.
const loopback = "127.0.0.1"

// next takes the first free loopback port after the one of base, and one that the
// system chooses where there is none.
func (a *address) next(base string) error {
	_, text, err := net.SplitHostPort(base)
	if err != nil {
		return fmt.Errorf("the address %q: %w", base, err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("the address %q: %w", base, err)
	}
	for n := port + 1; n <= min(port+100, lastPort); n++ {
		a.value = net.JoinHostPort(loopback, strconv.Itoa(n))
		if a.open() == nil {
			return nil
		}
	}
	a.value = net.JoinHostPort(loopback, "0")
	return a.open()
}

// unwrapNet takes the address out of a net error, which the message names anyway.
func unwrapNet(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
