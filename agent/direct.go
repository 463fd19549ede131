package agent

import (
	"cmp"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/direct"
	"ztm/agent/peers"
	"ztm/tunnel/identity"
)

// mode says with whom this endpoint meets without a hub: no further than it wants, and no further
// than the policy of the mesh lets it.
func (m *mesh) mode() direct.Mode {
	return direct.Narrower(m.ownMode(), direct.Mode(m.policy.Direct()))
}

// ownMode is what this endpoint wants.
func (m *mesh) ownMode() direct.Mode {
	return direct.Mode(cmp.Or(m.Membership().Direct, string(direct.Auto)))
}

// reapplyPolicy looks again at all that peers have open here, once another policy is in force.
func (m *mesh) reapplyPolicy() {
	m.peers.ReapplyPolicy()
	if mode := m.mode(); m.meets.Swap(mode) != mode {
		m.peers.ModeChanged()
	}
}

// setMode sets the mode. What is direct ends with its flows.
func (m *mesh) setMode(mode direct.Mode) error {
	if err := m.Save(func(row *authority.Row) { row.Direct = string(mode) }); err != nil {
		return err
	}
	m.meets.Store(m.mode())
	m.peers.ModeChanged()
	return nil
}

// route is how flows with an endpoint go.
func (m *mesh) route(id identity.ID) api.Route { return routeOf(m.peers.Route(id)) }

func routeOf(r peers.Route) api.Route {
	out := api.Route{Direct: r.Direct, Address: r.Address, Since: r.Since, Why: r.Why}
	if r.Datagrams != nil {
		datagrams := routeOf(*r.Datagrams)
		out.Datagrams = &datagrams
	}
	return out
}
