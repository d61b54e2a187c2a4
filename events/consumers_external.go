package events

import (
	"context"
	"crypto/rand"
	"net/url"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// externalCredential makes what a consumer needs on a NATS of the operator's. Its
// durable's name ends in what nobody guesses: replicas may make consumers of the
// stream, and so could change or empty any whose name they know. It is told to
// nobody else and stored nowhere but in NATS itself.
func externalCredential(nc *nats.Conn, name string) (Credential, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return Credential{}, err
	}
	defer pair.Wipe()
	seed, err := pair.Seed()
	if err != nil {
		return Credential{}, err
	}
	durable := name + "-" + rand.Text()
	return Credential{
		Name:         name,
		Seed:         string(seed),
		URL:          strings.Join(withoutUsers(nc.Servers()), ","),
		Stream:       UsageStream,
		Durable:      durable,
		ServerConfig: consumerAccount(name, publicKey(pair), durable),
	}, nil
}

// withoutUsers takes user and password out of URLs.
func withoutUsers(servers []string) []string {
	var bare []string
	for _, s := range servers {
		if u, err := url.Parse(s); err == nil {
			bare = append(bare, (&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
		}
	}
	slices.Sort(bare)
	return bare
}

// externalDurables are the durables that were made for a consumer. What follows
// its name has no small letter, so it is no part of another consumer's name.
func (c *Consumers) externalDurables(ctx context.Context, name string) ([]string, error) {
	var durables []string
	names := c.usage.stream.ConsumerNames(ctx)
	for durable := range names.Name() {
		if suffix, ok := strings.CutPrefix(durable, name+"-"); ok && len(suffix) == len(rand.Text()) && suffix == strings.ToUpper(suffix) {
			durables = append(durables, durable)
		}
	}
	return durables, names.Err()
}
