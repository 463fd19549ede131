package agent

import (
	"cmp"

	"ztm/agent/authority"
	"ztm/agent/direct"
)

// mode says with whom this endpoint meets without a hub.
func (m *mesh) mode() direct.Mode {
	return direct.Mode(cmp.Or(m.Membership().Direct, string(direct.Auto)))
}

// setMode sets the mode. What is direct ends with its flows.
func (m *mesh) setMode(mode direct.Mode) error {
	if err := m.Save(func(row *authority.Row) { row.Direct = string(mode) }); err != nil {
		return err
	}
	m.peers.ModeChanged()
	return nil
}
