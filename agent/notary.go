package agent

import (
	"ztm/agent/peers"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// notary is the apps.Notary of one app in one mesh.
type notary struct {
	m   *mesh
	app string
}

var _ apps.Notary = notary{}

// context is apart from those of all other documents, which have no app's name in second place.
func (n notary) context(kind string) string { return "ztm " + n.app + " " + kind + " v1" }

func (n notary) Sign(kind string, payload any) (doc, certificate []byte, err error) {
	doc, err = identity.SignStatement(n.context(kind), payload, n.m.agent.key)
	if err != nil {
		return nil, nil, err
	}
	return doc, n.m.Membership().Certificate, nil
}

func (n notary) Verify(kind string, doc, certificate []byte, payload any) (apps.Peer, error) {
	s, err := n.m.verifier.Statement(n.context(kind), doc, certificate, payload)
	if err != nil {
		return apps.Peer{}, err
	}
	return peers.PeerOf(s), nil
}
