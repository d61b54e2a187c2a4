package catalog

import "slices"

// SharesAccount reports whether what an upstream keeps for one model it keeps for the
// other: whose account it is the credential says, and without one the place.
func (m *Model) SharesAccount(o *Model) bool {
	if m.Credential != nil || o.Credential != nil {
		return m.Credential != nil && o.Credential != nil && m.Credential.Value() == o.Credential.Value()
	}
	return m.Cluster == o.Cluster || slices.ContainsFunc(m.Upstreams, func(u Upstream) bool {
		return slices.ContainsFunc(o.Upstreams, func(v Upstream) bool { return u.Host == v.Host && u.Port == v.Port })
	})
}
