package hub

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// try connects with a TLS configuration and waits for what the hub makes of it: nil if the hub lets
// the connection be.
func (h *testHub) try(config *tls.Config) error { return h.tryFrom("127.0.0.1", config) }

// tryFrom is try from an address.
func (h *testHub) tryFrom(ip string, config *tls.Config) error {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	raw, err := from.Dial("tcp", h.address())
	if err != nil {
		return err
	}
	defer raw.Close()
	c := tls.Client(raw, config)
	raw.SetDeadline(time.Now().Add(timeout))
	if err := c.Handshake(); err != nil {
		return err
	}
	// In TLS 1.3 the client is done before its certificate is verified. A hub that has let it in
	// speaks HTTP/2 first.
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 9))
	return err
}

func TestAllIPv4AddressesAreNotThoseOfIPv6(t *testing.T) {
	if probe, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		probe.Close()
	}
	for _, tt := range []struct {
		listen string
		six    bool
	}{{"0.0.0.0:0", false}, {"127.0.0.1:0", false}, {":0", true}, {"[::]:0", true}} {
		ln, err := listen(tt.listen)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(ln.Addr().String())
		for ip, want := range map[string]bool{"127.0.0.1": true, "::1": tt.six} {
			c, err := net.Dial("tcp", net.JoinHostPort(ip, port))
			if got := err == nil; got != want {
				t.Errorf("on %s: %s reached: %v, want %v", tt.listen, ip, got, want)
			}
			if err == nil {
				c.Close()
			}
		}
		ln.Close()
	}
}

func TestNobodyIsLetInButMembersOfThisMesh(t *testing.T) {
	now := time.Now()
	ca := identitytest.New(t, now.Add(-3*identity.MemberLifetime)).CA // old enough to have signed what has expired
	h := start(t, founded(t, ca))
	other := start(t)
	bob := h.device("bob")
	hubCert := h.unjoined("")
	der, err := h.ca.SignHub(publicKey(hubCert.key), now)
	if err != nil {
		t.Fatal(err)
	}
	hubCert.cert = identity.TLSCertificate(der, hubCert.key)
	selfSigned, err := identity.SelfSigned(bob.key, now)
	if err != nil {
		t.Fatal(err)
	}
	with := func(cert tls.Certificate, change ...func(*tls.Config)) *tls.Config {
		c := bob.verifier.ClientConfig(cert, identity.RoleHub, h.started.ID, tunnel.ControlProto)
		for _, f := range change {
			f(c)
		}
		return c
	}
	stolen := bob.cert
	stolen.PrivateKey = h.device("eve").key
	chain := bob.cert
	chain.Certificate = [][]byte{bob.cert.Certificate[0], h.device("root").cert.Certificate[0]}
	reversed := bob.cert
	reversed.Certificate = [][]byte{h.device("root").cert.Certificate[0], bob.cert.Certificate[0]}

	if err := h.try(with(bob.cert)); err != nil {
		t.Fatalf("a member is refused: %v", err)
	}
	cases := []struct {
		name   string
		config *tls.Config
	}{
		{"member of another mesh", with(other.device("bob").cert)},
		{"hub's certificate", with(hubCert.cert)},
		{"self-signed", with(selfSigned)},
		{"no certificate", with(tls.Certificate{})},
		{"somebody else's certificate", with(stolen)},
		{"second certificate in the chain", with(chain)},
		{"filler certificate first", with(reversed)},
		{"expired", with(h.deviceAt("bob", now, now.Add(-2*identity.MemberLifetime)).cert)},
		{"not yet valid", with(h.deviceAt("bob", now, now.Add(48*time.Hour)).cert)},
		{"no protocol", with(bob.cert, func(c *tls.Config) { c.NextProtos, c.VerifyConnection = nil, nil })},
		{"unknown protocol", with(bob.cert, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} })},
		{"TLS 1.2", with(bob.cert, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 })},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if h.try(c.config) == nil {
				t.Error("was let in")
			}
		})
	}
}

func TestAMemberCannotJoinAgainAndAJoiningDeviceIsNoMember(t *testing.T) {
	h := start(t)
	bob := h.device("bob")
	joining := h.unjoined("eve")
	var err error
	if joining.cert, err = identity.SelfSigned(joining.key, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, proto := range []string{tunnel.ControlProto, tunnel.RelayProto} {
		if h.try(joining.config(proto)) == nil {
			t.Errorf("a joining device was let in for %s", proto)
		}
	}
	if h.try(bob.config(identity.JoinProto)) == nil {
		t.Error("a member was let in as a joining device")
	}
}

func TestTheHubShowsItsOwnCertificateAlone(t *testing.T) {
	h := start(t)
	bob := h.device("bob")
	bob.verifier = start(t).device("bob").verifier
	if _, err := bob.dial(); !errors.Is(err, identity.ErrWrongMesh) {
		t.Errorf("a device of another mesh took the hub for its own: %v", err)
	}
}

// Connections that say nothing take the places of their own address, and give way there as well.
func TestConnectionsThatSayNothingDoNotKeepOthersOut(t *testing.T) {
	h := start(t, func(c *Config) { c.Limits.HandshakesPerSource, c.Metrics = 8, "127.0.0.1:0" })
	bob := h.device("bob")
	for range 40 {
		if c, err := net.Dial("tcp", h.address()); err == nil { // or it is reset already
			defer c.Close()
		}
	}
	eventually(t, "those over the limit are refused or give way", func() bool {
		return h.metric(`ztm_hub_connections_refused_total{reason="handshakes"}`) >= 32
	})
	eventually(t, "a member at the same address gets in", func() bool { return h.try(bob.config(tunnel.ControlProto)) == nil })
	if err := h.tryFrom("127.0.0.2", bob.config(tunnel.ControlProto)); err != nil {
		t.Errorf("a member at another address does not get in: %v", err)
	}
}

// A peer stays connected only as long as its certificate is good.
func TestACertificateThatExpiresEndsWhatItOpened(t *testing.T) {
	t.Parallel() // it waits, most of the time
	appstest.Long(t)
	now := time.Now()
	ca := identitytest.New(t, now.Add(-2*identity.MemberLifetime)).CA
	h := start(t, founded(t, ca), func(c *Config) { c.tidy = 100 * time.Millisecond })
	alice := h.device("alice").online("a")
	bob := h.deviceAt("bob", now, now.Add(-identity.MemberLifetime+3*time.Second)).online("b")
	near, _ := pair(t, alice, bob, openers["connection"], openers["connection"])
	wait(t, "the session ends", bob.Done())
	near.SetReadDeadline(time.Now().Add(timeout))
	if _, err := near.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the path stands: %v", err)
	}
	if h.try(bob.config(tunnel.ControlProto)) == nil {
		t.Error("a certificate that has expired is let in")
	}
	eventually(t, "the directory forgets the endpoint", func() bool { return len(names(t, alice.Session)) == 1 })
}

// When no file descriptors are left, new connections wait, and those that stand go on.
func TestAHubWithoutFileDescriptorsRecovers(t *testing.T) {
	prlimit, err := exec.LookPath("prlimit")
	if err != nil {
		t.Skip("prlimit of util-linux is not installed")
	}
	dir := t.TempDir()
	p := runHub(t, "--data", dir, "--listen", "127.0.0.1:0", "--names", "hub.test:1")
	address := p.address()
	h := p.as(address, filepath.Join(dir, "root.json"))
	a := h.device("alice").online("a")
	if out, err := exec.Command(prlimit, "--pid", strconv.Itoa(p.cmd.Process.Pid), "--nofile=30:30").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			c.Close()
		}
	}()
	for range 40 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	p.says("cannot accept connections")
	if err := a.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
		t.Errorf("a session that stands: %v", err)
	}
	for _, c := range idle {
		c.Close()
	}
	h.device("bob").session()
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestGarbageIsCutOff(t *testing.T) {
	h := start(t)
	bob := h.device("bob").session()
	for _, garbage := range []string{
		"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
		"\x00\x00\x00\x00\x00\x00\x00\x00",
		"\x16\x03\x01\xff\xff\x01" + string(make([]byte, 1000)),
		"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff",
		"SSH-2.0-OpenSSH_9.2\r\n",
	} {
		c, err := net.Dial("tcp", h.address())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, garbage)
		if w, ok := c.(*net.TCPConn); ok {
			w.CloseWrite()
		}
		c.SetReadDeadline(time.Now().Add(timeout))
		if _, err := io.Copy(io.Discard, c); isTimeout(err) {
			t.Errorf("%.10q: the hub keeps the connection", garbage)
		}
		c.Close()
	}
	var status tunnel.HubStatus
	if err := bob.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &status); err != nil {
		t.Error(err)
	}
}
