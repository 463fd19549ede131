package hub

import (
	"crypto/ed25519"
	"crypto/x509"
	"log/slog"
	"testing"
	"time"

	"ztm/hub/state"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// oldHub founds a mesh whose hub has a certificate that was signed at a time.
func oldHub(t *testing.T, dir string, signed time.Time, options ...func(*Config)) *testHub {
	t.Helper()
	ca := identitytest.New(t, signed).CA
	h := startIn(t, dir, append(options, founded(t, ca))...)
	h.stop()
	age(t, dir, ca, signed)
	return h
}

// age has the hub in a directory show a certificate that was signed then.
func age(t *testing.T, dir string, ca *identity.CA, signed time.Time) {
	t.Helper()
	st, err := state.Open(dir, testLog(t))
	if err != nil {
		t.Fatal(err)
	}
	me, _, err := st.Self()
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.ParsePrivateKey([]byte(me.Key))
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignHub(publicKey(key), signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Change(func(me *state.Self) { me.Certificate = der }); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}

// notAfter returns the end of the certificate that the hub shows.
func (d *device) notAfter(t *testing.T) time.Time {
	t.Helper()
	s, err := d.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	return s.TLS().PeerCertificates[0].NotAfter
}

func TestTheHubHasItsCertificateRenewedByARootEndpoint(t *testing.T) {
	dir := t.TempDir()
	old := oldHub(t, dir, time.Now().Add(-identity.HubLifetime*3/4))
	h := startIn(t, dir, func(c *Config) { c.Permit = old.config.Permit })
	bob := h.device("bob")
	before := bob.notAfter(t)
	root := h.device("root").online("root-ep", func(r *identity.Record) { r.Signer = true })
	root.sign(func(r tunnel.SignRequest) tunnel.SignAnswer {
		if !r.Hub || r.Join != nil {
			t.Errorf("asked for %+v", r)
		}
		der, err := h.ca.SignHub(root.TLS().PeerCertificates[0].PublicKey.(ed25519.PublicKey), time.Now())
		if err != nil {
			t.Error(err)
		}
		return tunnel.SignAnswer{Certificate: der}
	})
	eventually(t, "the hub shows a new certificate", func() bool { return bob.notAfter(t).After(before) })
	after := bob.notAfter(t)
	h.stop()
	h = startIn(t, dir, func(c *Config) { c.Permit = old.config.Permit })
	bob.hub = h
	if got := bob.notAfter(t); !got.Equal(after) {
		t.Errorf("after a restart the certificate ends on %v, want %v", got, after)
	}
}

func TestAHubToWhichNoRootEndpointIsAttachedIsRenewedThroughAnother(t *testing.T) {
	signed := time.Now().Add(-identity.HubLifetime * 3 / 4)
	first := startIn(t, t.TempDir(), founded(t, identitytest.New(t, signed).CA), atAddress(t))
	dir := t.TempDir()
	second := first.anotherIn(dir)
	second.stop()
	age(t, dir, first.ca, signed)
	second = startWith(t, first.ca, dir, atAddress(t), func(c *Config) { c.renewAgain = 50 * time.Millisecond })
	first.knows([]*testHub{first, second})
	bob := second.device("bob")
	before := bob.notAfter(t)
	root := first.device("root").online("root-ep", func(r *identity.Record) { r.Signer = true })
	root.sign(func(r tunnel.SignRequest) tunnel.SignAnswer {
		hub, err := x509.ParseCertificate(r.Of)
		if err != nil || !r.Hub {
			return tunnel.SignAnswer{Refusal: answer.Errorf(answer.Denied, "%v", err)}
		}
		der, err := first.ca.SignHub(hub.PublicKey.(ed25519.PublicKey), time.Now())
		if err != nil {
			t.Error(err)
		}
		return tunnel.SignAnswer{Certificate: der}
	})
	eventually(t, "the hub shows a new certificate", func() bool { return bob.notAfter(t).After(before) })
}

func TestAHubAsksForACertificateOfANewCAThatRootBrings(t *testing.T) {
	h := start(t)
	root := h.device("root").online("root-ep", func(r *identity.Record) { r.Signer = true })
	asked := make(chan struct{})
	root.sign(func(r tunnel.SignRequest) tunnel.SignAnswer {
		close(asked)
		return tunnel.SignAnswer{Refusal: answer.Errorf(answer.Unavailable, "later")}
	})
	trust, err := identity.NewTrust(h.ca.CertificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	successor, err := h.ca.Successor(now)
	if err != nil {
		t.Fatal(err)
	}
	rotated, err := trust.Rotate(h.ca, successor, now.Add(time.Hour), now)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Call(t.Context(), "POST", tunnel.PathTrust, nil, rotated.Document(), nil); err != nil {
		t.Fatal(err)
	}
	wait(t, "the hub asks the endpoint that brought the CA, whose certificate is good for an hour", asked)
}

func TestAHubAsksForNoCertificateOfAnother(t *testing.T) {
	h := start(t)
	root := h.device("root").online("root-ep", func(r *identity.Record) { r.Signer = true })
	root.sign(func(tunnel.SignRequest) tunnel.SignAnswer {
		t.Error("the endpoint of root was asked")
		return tunnel.SignAnswer{Certificate: []byte("x")}
	})
	evil, other := h.impostor(), h.impostor()
	s, err := tunnel.Open(t.Context(), &tunnel.Dialer{}, h.address(), evil.config(tunnel.HubProto))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, of := range [][]byte{nil, []byte("x"), other.cert.Certificate[0], h.device("bob").cert.Certificate[0]} {
		err := s.Ask(t.Context(), "POST", tunnel.PathLinkSign+"/"+string(root.id), tunnel.SignRequest{Hub: true, Of: of}, nil)
		wantRefusal(t, err, 400, "for itself")
	}
}

func TestTheHubTakesNoCertificateThatIsNotItsOwn(t *testing.T) {
	dir := t.TempDir()
	old := oldHub(t, dir, time.Now().Add(-identity.HubLifetime*3/4))
	h := startIn(t, dir, func(c *Config) { c.Permit = old.config.Permit })
	bob := h.device("bob")
	before := bob.notAfter(t)
	root := h.device("root").online("root-ep", func(r *identity.Record) { r.Signer = true })
	answered := make(chan struct{})
	root.sign(func(tunnel.SignRequest) tunnel.SignAnswer {
		defer close(answered)
		der, err := h.ca.SignHub(publicKey(bob.key), time.Now())
		if err != nil {
			t.Error(err)
		}
		return tunnel.SignAnswer{Certificate: der}
	})
	wait(t, "the hub has asked", answered)
	eventually(t, "the hub says no", func() bool { return h.log.Count(slog.LevelWarn) > 0 })
	if got := bob.notAfter(t); !got.Equal(before) {
		t.Error("the hub took the certificate")
	}
}

func TestAHubThatKeepsTheCARenewsItselfAndMembers(t *testing.T) {
	dir := t.TempDir()
	old := oldHub(t, dir, time.Now().Add(-identity.HubLifetime*3/4), keepCA)
	h := startIn(t, dir, func(c *Config) { c.Permit, c.KeepCA = old.config.Permit, true })
	young := h.device("bob")
	eventually(t, "the hub shows a new certificate", func() bool {
		return young.notAfter(t).After(time.Now().Add(identity.HubLifetime * 9 / 10))
	})
	wantRefusal(t, young.session().Call(t.Context(), "POST", tunnel.PathRenew, nil, nil, nil), 409, "too early")

	admitted := time.Now().Add(-identity.MemberLifetime).Truncate(time.Second)
	aged := h.deviceAt("bob", admitted, time.Now().Add(-identity.MemberLifetime*2/3))
	var reply tunnel.SignAnswer
	if err := aged.session().Call(t.Context(), "POST", tunnel.PathRenew, nil, nil, &reply); err != nil {
		t.Fatal(err)
	}
	s, err := aged.verifier.Inspect(reply.Certificate, identity.RoleMember)
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != aged.id || s.User != "bob" || !s.Admitted.Equal(admitted) || s.NotAfter.Before(time.Now().Add(identity.MemberLifetime-time.Hour)) {
		t.Errorf("renewed as %+v", s)
	}
}

func TestAHubThatKeepsTheCARenewsNobodyPastTheEndOfTheirAccess(t *testing.T) {
	dir := t.TempDir()
	old := oldHub(t, dir, time.Now().Add(-identity.HubLifetime*3/4), keepCA)
	h := startIn(t, dir, func(c *Config) { c.Permit, c.KeepCA = old.config.Permit, true })
	for life, refused := range map[time.Duration]bool{30 * 24 * time.Hour: true, identity.MemberLifetime - time.Hour: true, identity.MemberLifetime: false} {
		gil := h.unjoined("gil")
		began := time.Now().Add(-life * 3 / 4)
		der, err := h.ca.LimitMember(publicKey(gil.key), "gil", began, began, life)
		if err != nil {
			t.Fatal(err)
		}
		gil.cert = identity.TLSCertificate(der, gil.key)
		err = gil.session().Call(t.Context(), "POST", tunnel.PathRenew, nil, nil, new(tunnel.SignAnswer))
		if refused {
			wantRefusal(t, err, 403, "access of user gil ends")
		} else if err != nil {
			t.Errorf("a certificate of a whole life: %v", err)
		}
	}
}

func TestAHubThatKeepsTheCARenewsInTheLastYearOfTheCA(t *testing.T) {
	const day = 24 * time.Hour
	left := 60 * day
	ca := identitytest.New(t, time.Now().Add(left-identity.CALifetime)).CA
	h := start(t, founded(t, ca), keepCA)
	began := time.Now().Add(-identity.MemberLifetime * 2 / 3)
	for life, refused := range map[time.Duration]bool{identity.MemberLifetime: false, identity.MemberLifetime - day: true} {
		bob := h.unjoined("bob")
		der, err := h.ca.LimitMember(publicKey(bob.key), "bob", began, began, life)
		if err != nil {
			t.Fatal(err)
		}
		bob.cert = identity.TLSCertificate(der, bob.key)
		err = bob.session().Call(t.Context(), "POST", tunnel.PathRenew, nil, nil, new(tunnel.SignAnswer))
		if refused {
			wantRefusal(t, err, 403, "access of user bob ends")
		} else if err != nil {
			t.Errorf("a certificate that ends with the CA: %v", err)
		}
	}
}

func TestAHubWithoutTheCADoesNotRenew(t *testing.T) {
	h := start(t)
	bob := h.deviceAt("bob", time.Now(), time.Now())
	wantRefusal(t, bob.session().Call(t.Context(), "POST", tunnel.PathRenew, nil, nil, nil), 403, "does not hold the CA key")
}

// No agent can renew an expired certificate of a hub: agents do not talk to such a hub.
func TestAHubWhoseCertificateHasExpiredNeedsTheRootPermit(t *testing.T) {
	dir := t.TempDir()
	old := oldHub(t, dir, time.Now().Add(-identity.HubLifetime-time.Hour*24))
	hub, err := New(Config{Data: dir, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	if err := hub.Run(t.Context()); err == nil || !contains(err.Error(), "expired on", "root permit") {
		t.Errorf("got %v", err)
	}
	h := startIn(t, dir, func(c *Config) { c.Permit = old.config.Permit })
	bob := h.device("bob")
	bob.session()
	if h.started.ID != old.started.ID {
		t.Error("the hub has another ID")
	}
	if leaf := bob.session().TLS().PeerCertificates[0]; leaf.NotAfter.Before(time.Now()) || leaf.PublicKeyAlgorithm != x509.Ed25519 {
		t.Errorf("certificate until %v", leaf.NotAfter)
	}
}
