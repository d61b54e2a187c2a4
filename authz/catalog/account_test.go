package catalog

import "testing"

func TestSharesAccount(t *testing.T) {
	at := func(cluster, secret string, hosts ...string) *Model {
		m := &Model{Cluster: cluster}
		if secret != "" {
			m.Credential = &Credential{Header: "authorization", Prefix: "Bearer ", secret: secret}
		}
		for _, h := range hosts {
			m.Upstreams = append(m.Upstreams, Upstream{Host: h, Port: 443})
		}
		return m
	}
	for _, c := range []struct {
		name string
		a, b *Model
		want bool
	}{
		{"one credential", at("model:a", "s", "x"), at("model:b", "s", "y"), true},
		{"two credentials", at("model:a", "s", "x"), at("model:b", "r", "x"), false},
		{"one of them has none", at("model:a", "s", "x"), at("model:b", "", "x"), false},
		{"one place", at("model:a", "", "x", "y"), at("model:b", "", "z", "y"), true},
		{"two places", at("model:a", "", "x"), at("model:b", "", "y"), false},
		{"one cluster", at("theirs", ""), at("theirs", ""), true},
		{"two clusters", at("theirs", ""), at("others", ""), false},
	} {
		if c.a.SharesAccount(c.b) != c.want || c.b.SharesAccount(c.a) != c.want {
			t.Errorf("%s: want %v", c.name, c.want)
		}
	}
}
