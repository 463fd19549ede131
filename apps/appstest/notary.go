package appstest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"ztm/apps"
	"ztm/tunnel/identity"
)

// keyOf makes the key of an endpoint from its name.
func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// notary signs with the keys of endpoints. A certificate is the endpoint's peer as JSON: the Net
// knows which endpoints there are, so nobody has to have signed it.
type notary struct {
	h   *Host
	app string
}

// signed is a document of a notary.
type signed struct {
	Payload   json.RawMessage `json:"payload"`
	Signature []byte          `json:"signature"`
}

func (n notary) message(kind string, payload []byte) []byte {
	return append([]byte("ztm "+n.app+" "+kind+" v1\x00"), payload...)
}

func (n notary) Sign(kind string, payload any) (doc, certificate []byte, err error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, nil, err
	}
	doc, err = json.Marshal(signed{body, ed25519.Sign(n.h.key, n.message(kind, body))})
	if err != nil {
		return nil, nil, err
	}
	certificate, err = json.Marshal(n.h.peer())
	return doc, certificate, err
}

// peer returns the endpoint as its peers see it.
func (h *Host) peer() apps.Peer {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return apps.Peer{ID: h.self.ID, User: h.self.User, Admitted: h.since}
}

func (n notary) Verify(kind string, doc, certificate []byte, payload any) (apps.Peer, error) {
	var p apps.Peer
	var s signed
	if len(doc) > identity.MaxStatement {
		return apps.Peer{}, fmt.Errorf("a statement of %d bytes", len(doc))
	}
	if err := errors.Join(json.Unmarshal(certificate, &p), json.Unmarshal(doc, &s)); err != nil {
		return apps.Peer{}, err
	}
	net := n.h.net
	net.mu.Lock()
	i := slices.IndexFunc(net.endpoints, func(h *Host) bool {
		return h.self.ID == p.ID && h.self.User == p.User && h.since == p.Admitted
	})
	if i < 0 {
		net.mu.Unlock()
		return apps.Peer{}, fmt.Errorf("the certificate of %s is not valid", p.ID)
	}
	key := net.endpoints[i].key
	net.mu.Unlock()
	if !ed25519.Verify(key.Public().(ed25519.PublicKey), n.message(kind, s.Payload), s.Signature) {
		return apps.Peer{}, errors.New("the statement is not signed by the key of its certificate")
	}
	return p, json.Unmarshal(s.Payload, payload)
}

// Notary returns what apps of that name sign with at this endpoint.
func (h *Host) Notary(app string) apps.Notary { return notary{h, app} }
