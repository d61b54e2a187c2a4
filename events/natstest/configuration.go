package natstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// connectRoutes makes the proxies between the servers.
func (c *Cluster) connectRoutes() {
	if !c.options.ProxyRoutes {
		return
	}
	for i := range c.processes {
		for j, other := range c.processes {
			if i != j {
				c.routes[[2]int{i, j}] = NewProxy(c.t, other.routes)
			}
		}
	}
}

// Reconfigure replaces what Options.Config added to the configuration of all
// servers, and tells those that run to read it again. It does not wait until they
// have.
func (c *Cluster) Reconfigure(config string) {
	c.t.Helper()
	c.options.Config = config
	c.configure()
	for _, p := range c.processes {
		if p.lives() {
			p.signal(c.t, syscall.SIGHUP)
		}
	}
}

func (c *Cluster) configure() {
	c.t.Helper()
	for i, p := range c.processes {
		if err := os.WriteFile(filepath.Join(p.dir, "nats.conf"), []byte(c.configuration(i)), 0o600); err != nil {
			c.t.Fatal(err)
		}
	}
}

// configuration is a server's.
func (c *Cluster) configuration(i int) string {
	p := c.processes[i]
	var b strings.Builder
	fmt.Fprintf(&b, "server_name: %s\nlisten: %q\nhttp: %q\n", p.name, p.addr, p.monitor)
	fmt.Fprintf(&b, "jetstream {store_dir: %q, max_memory_store: 256MB, max_file_store: 64GB}\n", p.dir)
	if len(c.processes) > 1 {
		// Servers tell each other, and clients, where the others are. With
		// proxies that must lead nowhere, or they would find a way around.
		advertise := ""
		if c.options.ProxyRoutes {
			advertise = `advertise: "127.0.0.1:1", `
		}
		fmt.Fprintf(&b, "cluster {name: test, listen: %q, no_advertise: true, %sroutes: [%s]}\n", p.routes, advertise, strings.Join(c.routesFrom(i), ", "))
	}
	b.WriteString(c.options.Config)
	b.WriteByte('\n')
	return b.String()
}

// routesFrom are the URLs by which a server reaches the others.
func (c *Cluster) routesFrom(i int) []string {
	var urls []string
	for j, other := range c.processes {
		addr := other.routes
		if proxy := c.routes[[2]int{i, j}]; proxy != nil {
			addr = proxy.Addr()
		}
		if i != j {
			urls = append(urls, "nats-route://"+addr)
		}
	}
	return urls
}
