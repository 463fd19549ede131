package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/unixtime"
)

// member is an endpoint of the mesh that does what it likes.
type member struct {
	name     string
	key      ed25519.PrivateKey
	id       identity.ID
	cert     tls.Certificate
	verifier *identity.Verifier
	mesh     *mesh
	session  *tunnel.Session // with the hub; nil before online
}

// permit makes a permit with the certificate of a user for a key.
func (m *mesh) permit(user, hub string, key ed25519.PublicKey) ([]byte, error) {
	now := time.Now()
	der, err := m.ca.SignMember(key, user, now, now)
	if err != nil {
		return nil, err
	}
	p := identity.Permit{Version: 1, Mesh: m.ca.Mesh(), CA: string(m.caPEM), Bootstraps: []string{hub},
		Agent: &identity.PermitAgent{Certificate: string(pemOf(der))}}
	return p.Marshal()
}

// newMember makes a key and a certificate of a user.
func (m *mesh) newMember(user string) (*member, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	public := key.Public().(ed25519.PublicKey)
	der, err := m.ca.SignMember(public, user, now, now)
	if err != nil {
		return nil, err
	}
	trust, err := identity.NewTrust(m.caPEM)
	if err != nil {
		return nil, err
	}
	a := &member{key: key, id: identity.IDOf(public), cert: identity.TLSCertificate(der, key), mesh: m,
		verifier: identity.NewVerifier(trust, identity.NewClock())}
	a.name = user + "-" + string(a.id[:6])
	m.members = append(m.members, a)
	return a, nil
}

// mallories makes so many endpoints of the attacking user.
func (m *mesh) mallories(n int) ([]*member, error) {
	var all []*member
	for range n {
		a, err := m.newMember(attacker)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func (a *member) leave() {
	if a.session != nil {
		a.session.Close()
	}
}

// control opens a control session.
func (a *member) control(ctx context.Context) (err error) {
	a.session, err = tunnel.Open(ctx, &tunnel.Dialer{}, a.mesh.hub, a.verifier.ClientConfig(a.cert, identity.RoleHub, "", tunnel.ControlProto))
	return err
}

// register puts a record that offers something.
func (a *member) register(ctx context.Context, name string, offers ...string) error {
	doc, err := identity.SignRecord(identity.Record{ID: a.id, Name: name, Offers: offers, Version: "hostile",
		Time: unixtime.MillisOf(time.Now()), Certificate: a.cert.Certificate[0]}, a.key)
	if err != nil {
		return err
	}
	return a.session.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(a.id), nil, doc, nil)
}

// relay opens a way to the exit through the hub, of a connection of its own.
func (a *member) relay(ctx context.Context) (net.Conn, error) {
	leg, err := tunnel.DialRelay(ctx, &tunnel.Dialer{}, a.mesh.hub, a.verifier.ClientConfig(a.cert, identity.RoleHub, "", tunnel.RelayProto))
	if err != nil {
		return nil, err
	}
	return leg.Connect(ctx, a.mesh.exit, "")
}

// seal opens a session with the exit.
func (a *member) seal(ctx context.Context) (*seal.Session, error) {
	c, err := a.relay(ctx)
	if err != nil {
		return nil, err
	}
	return seal.Client(ctx, c, a.verifier, a.cert, a.mesh.exit)
}

// firstContact is all that a member does to reach the exit for the first time.
func (a *member) firstContact(ctx context.Context) error {
	s, err := a.seal(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://peer"+seal.PathPing, nil)
	if err != nil {
		return err
	}
	resp, err := s.RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("ping: %s", resp.Status)
	}
	return nil
}

// members are attacks of somebody who was invited, on the exit or through the hub, without a right to anything.
var members = []attack{
	{"member", "claims the name and the ID of others", claimNames},
	{"member", "tells the hub an old and a false trust list", falseTrust},
	{"member", "lists the directory as fast as it can, 8 endpoints", listPages},
	{"member", "offers the tunnel of another user", offerTunnel},
	{"member", "asks for paths and leaves them, 2 endpoints", leavePaths},
	{"member", "begins handshakes of 200 KB with the exit", longSealedHandshakes},
	{"member", "opens sessions without end, 8 endpoints", manySessions},
	{"member", "holds back the last byte of trust lists", holdTrust},
	{"member", "sends trust lists with false signatures", forgeTrust},
	{"member", "asks for what it may not have, 1000 a second", refusedFlows},
	{"user", "a client in a loop on a tunnel whose exit is off", deadTunnel},
	{"user", "1,500 clients of a UDP tunnel at once", manyClients},
}

// claimNames puts records that are another's: by name, by ID, of a user that it is not.
func claimNames(ctx context.Context, m *mesh) (t tally, err error) {
	a, err := m.newMember(attacker)
	if err != nil {
		return t, err
	}
	if err := a.control(ctx); err != nil {
		return t, err
	}
	for ctx.Err() == nil {
		t.Tried += 3
		if a.register(ctx, "exit") == nil {
			t.LetIn++
		}
		record := identity.Record{ID: m.exit, Name: "taken", Version: "hostile", Time: unixtime.MillisOf(time.Now()), Certificate: a.cert.Certificate[0]}
		doc, err := identity.SignRecord(record, a.key)
		if err == nil && a.session.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(m.exit), nil, doc, nil) == nil {
			t.LetIn++
		}
		if a.session.Call(ctx, http.MethodDelete, tunnel.PathEndpoints+"/"+string(m.exit), nil, nil, nil) == nil {
			t.LetIn++
		}
		pause(ctx, 20*time.Millisecond)
	}
	return t, nil
}

// falseTrust posts the list of a CA of its own, and one whose bytes were changed.
func falseTrust(ctx context.Context, m *mesh) (t tally, err error) {
	a, err := m.newMember(attacker)
	if err != nil {
		return t, err
	}
	if err := a.control(ctx); err != nil {
		return t, err
	}
	docs, err := forgedLists(m, 100)
	if err != nil {
		return t, err
	}
	for ctx.Err() == nil {
		for _, doc := range docs {
			t.Tried++
			if a.session.Call(ctx, http.MethodPost, tunnel.PathTrust, nil, doc, nil) == nil {
				t.LetIn++
			}
		}
		pause(ctx, 20*time.Millisecond)
	}
	return t, nil
}

// forgedLists are trust lists that evict the honest users, so many bytes and more: of another CA, and with another signature.
func forgedLists(m *mesh, evictions int) ([][]byte, error) {
	other, err := identity.NewCA(time.Now())
	if err != nil {
		return nil, err
	}
	trust, err := identity.NewTrust(other.CertificatePEM())
	if err != nil {
		return nil, err
	}
	trust, err = trust.Evict(other, exitUser, time.Now())
	if err != nil {
		return nil, err
	}
	own, err := identity.NewTrust(m.caPEM)
	if err != nil {
		return nil, err
	}
	for i := range evictions {
		if own, err = own.Evict(m.ca, fmt.Sprint("user-", i), time.Now()); err != nil {
			return nil, err
		}
	}
	var signed struct {
		Payload   json.RawMessage `json:"payload"`
		Signature []byte          `json:"signature"`
	}
	if err := json.Unmarshal(own.Document(), &signed); err != nil {
		return nil, err
	}
	signed.Signature[0] ^= 1
	changed, err := json.Marshal(signed)
	return [][]byte{trust.Document(), changed}, err
}

// listPages reads the directory in a loop, at eight endpoints.
func listPages(ctx context.Context, m *mesh) (t tally, err error) {
	all, err := m.mallories(8)
	if err != nil {
		return t, err
	}
	counts := each(all, func(a *member) (n int) {
		if a.control(ctx) != nil {
			return 0
		}
		for ; ctx.Err() == nil; n++ {
			var page tunnel.Page
			if err := a.session.Call(ctx, http.MethodGet, tunnel.PathEndpoints, url.Values{"limit": {"200"}}, nil, &page); err != nil {
				pause(ctx, 5*time.Millisecond)
			}
		}
		return n
	})
	t.Tried = counts
	return t, nil
}

// offerTunnel is online with a record that offers the tunnel of bob, for which an inbound stands.
func offerTunnel(ctx context.Context, m *mesh) (t tally, err error) {
	a, err := m.newMember(attacker)
	if err != nil {
		return t, err
	}
	if err := a.control(ctx); err != nil {
		return t, err
	}
	if err := a.register(ctx, "mallory", "tunnel/tcp/load", "tunnel/udp/echo"); err != nil {
		return t, err
	}
	t.Tried = 1
	a.session.Events(ctx, func(e tunnel.Event) {
		if e.Type == tunnel.EventDialBack { // a client of the tunnel would come here
			t.LetIn++
		}
	})
	return t, nil
}
