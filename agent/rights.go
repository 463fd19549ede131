package agent

import (
	"ztm/apps"
)

// names implements [apps.Names].
func (m *mesh) names(p apps.Peer, who []string) bool {
	return m.rights.Load().Names(p, who, m.verifier.Clock().Now().Unix())
}
