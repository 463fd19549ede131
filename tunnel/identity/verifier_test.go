package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const testProto = "h2"

// end is what one end of a handshake saw.
type end struct {
	state tls.ConnectionState
	err   error
}

// handshake runs a TLS handshake in both directions. A client learns only from what comes after its
// handshake that the server has accepted it, so the server sends a byte.
func handshake(t *testing.T, clientConfig, serverConfig *tls.Config) (client, server end) {
	t.Helper()
	a, b := net.Pipe()
	for _, c := range []net.Conn{a, b} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer b.Close()
		c := tls.Server(b, serverConfig)
		if server.err = c.HandshakeContext(t.Context()); server.err == nil {
			_, server.err = c.Write([]byte{1})
		}
		server.state = c.ConnectionState()
	})
	c := tls.Client(a, clientConfig)
	if client.err = c.HandshakeContext(t.Context()); client.err == nil {
		_, client.err = c.Read(make([]byte, 1))
	}
	client.state = c.ConnectionState()
	a.Close()
	wg.Wait()
	return client, server
}

func (d device) tls() tls.Certificate { return TLSCertificate(d.der, d.key) }

func serve(v *Verifier, c tls.Certificate) *tls.Config {
	return v.ServerConfig(func() tls.Certificate { return c }, testProto, JoinProto)
}

func dial(v *Verifier, c tls.Certificate) *tls.Config {
	return v.ClientConfig(c, RoleHub, "", testProto)
}

func TestMemberAndHubKnowEachOther(t *testing.T) {
	m := newMesh(t)
	hub, bob := m.hub(t, start), m.member(t, "bob", start)
	v := m.verifier()
	client, server := handshake(t, v.ClientConfig(bob.tls(), RoleHub, hub.id, testProto), serve(v, hub.tls()))
	if client.err != nil || server.err != nil {
		t.Fatalf("client %v, server %v", client.err, server.err)
	}
	if s, err := v.Subject(client.state, RoleHub); err != nil || s.ID != hub.id {
		t.Errorf("client sees %v, %v", s, err)
	}
	if s, err := v.Subject(server.state, RoleMember); err != nil || s.ID != bob.id || s.User != "bob" {
		t.Errorf("server sees %v, %v", s, err)
	}
	if client.state.Version != tls.VersionTLS13 || client.state.CurveID != tls.X25519MLKEM768 {
		t.Errorf("version %x, key exchange %v", client.state.Version, client.state.CurveID)
	}
}

func TestMembersKnowEachOther(t *testing.T) {
	m := newMesh(t)
	alice, bob := m.member(t, "alice", start), m.member(t, "bob", start)
	v := m.verifier()
	client, server := handshake(t, v.ClientConfig(bob.tls(), RoleMember, alice.id, testProto), serve(v, alice.tls()))
	if client.err != nil || server.err != nil {
		t.Fatalf("client %v, server %v", client.err, server.err)
	}
}

func TestPeersThatAreNotWhatTheyShouldBeAreRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	hub, bob, mallory := m.hub(t, start), m.member(t, "bob", start), m.member(t, "mallory", start)
	evicted := m.member(t, "carol", start)
	m.evict(t, "carol", start)
	fake := must(newCA(m.ca.Mesh(), start))(t)
	impostor := &mesh{ca: fake, trust: m.trust}
	v := m.verifier()
	chain := func(d device, first ...device) tls.Certificate {
		c := d.tls()
		c.Leaf = nil
		c.Certificate = nil
		for _, x := range first {
			c.Certificate = append(c.Certificate, x.der)
		}
		return c
	}
	old, future := start.Add(-10*year), start.Add(2*year)
	oldMesh, futureMesh := *m, *m
	oldMesh.ca, futureMesh.ca = backdated(m.ca), backdated(m.ca)

	tests := []struct {
		name string
		cert tls.Certificate
		as   Role // what it plays
		kind error
	}{
		{"a member as hub", mallory.tls(), RoleHub, ErrWrongRole},
		{"a hub as member", m.hub(t, start).tls(), RoleMember, ErrWrongRole},
		{"a hub of another mesh", other.hub(t, start).tls(), RoleHub, ErrWrongMesh},
		{"a member of another mesh", other.member(t, "bob", start).tls(), RoleMember, ErrWrongMesh},
		{"a hub of a CA that claims to be ours", impostor.hub(t, start).tls(), RoleHub, ErrUntrusted},
		{"a member of a CA that claims to be ours", impostor.member(t, "bob", start).tls(), RoleMember, ErrUntrusted},
		{"an expired hub", oldMesh.hub(t, old).tls(), RoleHub, ErrExpired},
		{"an expired member", oldMesh.member(t, "bob", old).tls(), RoleMember, ErrExpired},
		{"a hub of tomorrow", futureMesh.hub(t, future).tls(), RoleHub, ErrNotYetValid},
		{"a member of tomorrow", futureMesh.member(t, "bob", future).tls(), RoleMember, ErrNotYetValid},
		{"an evicted member", evicted.tls(), RoleMember, ErrEvicted},
		{"a hub with filler", chain(hub, hub, bob), RoleHub, ErrChain},
		{"a hub behind filler", chain(hub, bob, hub), RoleHub, ErrChain},
		{"a member with another's certificate", chain(mallory, mallory, bob), RoleMember, ErrChain},
		{"a member behind another's certificate", chain(mallory, bob, mallory), RoleMember, ErrChain},
		{"a member with its CA's certificate", chain(bob, bob, device{der: m.ca.cert.Raw}), RoleMember, ErrChain},
		{"a member with its certificate twice", chain(bob, bob, bob), RoleMember, ErrChain},
		{"a joining device as hub", must(SelfSigned(mallory.key, start))(t), RoleHub, ErrUntrusted},
		{"a joining device as member", must(SelfSigned(mallory.key, start))(t), RoleMember, ErrUntrusted},
		{"the CA as member", TLSCertificate(m.ca.cert.Raw, m.ca.private()), RoleMember, ErrUntrusted},
		{"the CA as hub", TLSCertificate(m.ca.cert.Raw, m.ca.private()), RoleHub, ErrUntrusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.as == RoleHub {
				client, server := handshake(t, dial(v, bob.tls()), serve(v, tt.cert))
				wantError(t, client.err, tt.kind, "")
				if server.err == nil {
					t.Error("the server saw no error")
				}
			} else {
				client, server := handshake(t, dial(v, tt.cert), serve(v, hub.tls()))
				wantError(t, server.err, tt.kind, "")
				if client.err == nil {
					t.Error("the client saw no error")
				}
			}
		})
	}
}

// backdated returns a CA that signs at any time, for certificates of times at which the real one
// was not valid.
func backdated(ca *CA) *CA {
	c := *ca
	cert := *ca.cert
	cert.NotBefore, cert.NotAfter = time.Time{}, start.Add(100*year)
	c.cert = &cert
	return &c
}

func TestOtherMemberWithTheKeyOfNobodyIsRefused(t *testing.T) {
	m := newMesh(t)
	hub, victim, mallory := m.hub(t, start), m.member(t, "bob", start), m.member(t, "mallory", start)
	v := m.verifier()
	stolen := TLSCertificate(victim.der, mallory.key) // the certificate is public, its key is not
	client, server := handshake(t, dial(v, stolen), serve(v, hub.tls()))
	if client.err == nil || server.err == nil || !strings.Contains(server.err.Error(), "invalid signature") {
		t.Errorf("client %v, server %v", client.err, server.err)
	}
}

func TestPeerWithAnotherIDIsRefused(t *testing.T) {
	m := newMesh(t)
	alice, bob, mallory := m.member(t, "alice", start), m.member(t, "bob", start), m.member(t, "mallory", start)
	v := m.verifier()
	client, _ := handshake(t, v.ClientConfig(bob.tls(), RoleMember, alice.id, testProto), serve(v, mallory.tls()))
	wantError(t, client.err, ErrWrongID, "peer is "+string(mallory.id)+", not "+string(alice.id))
}

func TestRunningSessionIsVerifiedAgain(t *testing.T) {
	m := newMesh(t)
	hub, bob := m.hub(t, start), m.member(t, "bob", start)
	v := m.verifier()
	_, server := handshake(t, dial(v, bob.tls()), serve(v, hub.tls()))
	if _, err := v.Subject(server.state, RoleMember); err != nil {
		t.Fatal(err)
	}
	m.evict(t, "bob", start)
	v.Set(m.trust)
	_, err := v.Subject(server.state, RoleMember)
	wantError(t, err, ErrEvicted, "bob")

	fresh := newMesh(t)
	carol := fresh.member(t, "carol", start)
	v = fresh.verifier()
	_, server = handshake(t, dial(v, carol.tls()), serve(v, fresh.hub(t, start).tls()))
	v.Clock().Raise(start.Add(2 * year))
	_, err = v.Subject(server.state, RoleMember)
	wantError(t, err, ErrExpired, "expired on")
}

func TestAJoiningDeviceIsHeardInTheJoinProtocolOnly(t *testing.T) {
	m := newMesh(t)
	hub, bob, joiner := m.hub(t, start), m.member(t, "bob", start), newDevice(t)
	v := m.verifier()
	joining := must(SelfSigned(joiner.key, time.Unix(1000, 0)))(t) // it is 1970 on the device
	join := func(c tls.Certificate, protos ...string) (end, end) {
		return handshake(t, v.ClientConfig(c, RoleHub, hub.id, protos...), serve(v, hub.tls()))
	}

	client, server := join(joining, JoinProto)
	if client.err != nil || server.err != nil {
		t.Fatalf("client %v, server %v", client.err, server.err)
	}
	if key := must(JoiningKey(server.state))(t); !key.Equal(joiner.public()) {
		t.Error("its key is another one")
	}
	_, err := v.Subject(server.state, RoleMember)
	wantError(t, err, ErrUntrusted, "")

	_, server = join(joining, testProto)
	wantError(t, server.err, ErrUntrusted, "")
	_, server = join(joining, testProto, JoinProto) // the server prefers the other
	wantError(t, server.err, ErrUntrusted, "")
	_, server = join(joining)
	wantError(t, server.err, ErrProtocol, "")
	_, server = join(bob.tls(), JoinProto)
	wantError(t, server.err, ErrUntrusted, "signed by its own Ed25519 key")

	client, server = handshake(t, v.ClientConfig(joining, RoleHub, "", JoinProto),
		v.ServerConfig(hub.tls, testProto))
	if client.err == nil || server.err == nil {
		t.Error("a server that lets nobody join let somebody join")
	}
	client, server = join(bob.tls(), testProto)
	if client.err != nil || server.err != nil {
		t.Fatalf("client %v, server %v", client.err, server.err)
	}
	_, err = JoiningKey(server.state)
	wantError(t, err, ErrProtocol, "joins")
}

func TestAJoiningDeviceMustHoldAnEd25519Key(t *testing.T) {
	m := newMesh(t)
	hub, joiner, other := m.hub(t, start), newDevice(t), newDevice(t)
	v := m.verifier()
	template := must(template(start, start, day))(t)
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	ecCert := must(x509.CreateCertificate(rand.Reader, template, template, ec.Public(), ec))(t)
	template.IsCA = true
	parent := must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, other.public(), other.key))(t)))(t)
	template.IsCA = false
	signed := must(x509.CreateCertificate(rand.Reader, template, parent, joiner.public(), other.key))(t)
	twice := must(SelfSigned(joiner.key, start))(t)
	twice.Certificate = append(twice.Certificate, hub.der)

	for name, tt := range map[string]struct {
		cert tls.Certificate
		kind error
	}{
		"another algorithm":       {tls.Certificate{Certificate: [][]byte{ecCert}, PrivateKey: ec}, ErrUntrusted},
		"signed by somebody else": {TLSCertificate(signed, joiner.key), ErrUntrusted},
		"a chain":                 {twice, ErrChain},
	} {
		t.Run(name, func(t *testing.T) {
			_, server := handshake(t, v.ClientConfig(tt.cert, RoleHub, "", JoinProto), serve(v, hub.tls()))
			wantError(t, server.err, tt.kind, "")
		})
	}
}

func TestProtocolMustBeAgreedOn(t *testing.T) {
	m := newMesh(t)
	hub, bob := m.hub(t, start), m.member(t, "bob", start)
	v := m.verifier()
	_, server := handshake(t, v.ClientConfig(bob.tls(), RoleHub, ""), serve(v, hub.tls()))
	wantError(t, server.err, ErrProtocol, `peer speaks protocol ""`)
	client, _ := handshake(t, dial(v, bob.tls()), v.ServerConfig(hub.tls))
	wantError(t, client.err, ErrProtocol, `peer speaks protocol ""`)
}

func TestOldTLSIsRefused(t *testing.T) {
	m := newMesh(t)
	hub, bob := m.hub(t, start), m.member(t, "bob", start)
	v := m.verifier()
	old := dial(v, bob.tls())
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if client, server := handshake(t, old, serve(v, hub.tls())); client.err == nil || server.err == nil {
		t.Errorf("old client: client %v, server %v", client.err, server.err)
	}
	old = serve(v, hub.tls())
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if client, server := handshake(t, dial(v, bob.tls()), old); client.err == nil || server.err == nil {
		t.Errorf("old server: client %v, server %v", client.err, server.err)
	}
	_, err := v.Subject(tls.ConnectionState{}, RoleMember)
	wantError(t, err, ErrChain, "0 certificates")
}

func TestPeerWithoutCertificateIsRefused(t *testing.T) {
	m := newMesh(t)
	v := m.verifier()
	for _, proto := range []string{testProto, JoinProto} {
		client, server := handshake(t, v.ClientConfig(tls.Certificate{}, RoleHub, "", proto), serve(v, m.hub(t, start).tls()))
		if client.err == nil || server.err == nil {
			t.Errorf("%s: client %v, server %v", proto, client.err, server.err)
		}
	}
}

func TestSessionsAreNotResumed(t *testing.T) {
	m := newMesh(t)
	v := m.verifier()
	client, server := dial(v, m.member(t, "bob", start).tls()), serve(v, m.hub(t, start).tls())
	client.SessionTicketsDisabled = false
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	client.ServerName = "hub"
	for range 3 {
		c, s := handshake(t, client, server)
		if c.err != nil || s.err != nil {
			t.Fatalf("client %v, server %v", c.err, s.err)
		}
		if c.state.DidResume || s.state.DidResume {
			t.Error("a session was resumed")
		}
	}
}
