package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCertificatesSayWhatTheDesignSays(t *testing.T) {
	m := newMesh(t)
	member, hub := m.member(t, "bob", start), m.hub(t, start)
	type facts struct {
		URI      string
		Usage    x509.KeyUsage
		Extended []x509.ExtKeyUsage
		CA       bool
		From, To time.Time
	}
	tests := []struct {
		name string
		cert *x509.Certificate
		want facts
	}{
		{"CA", m.ca.Certificate(), facts{
			"ztm://" + string(m.ca.Mesh()), x509.KeyUsageCertSign, nil, true, start.Add(-day), start.Add(20 * year)}},
		{"hub", hub.cert(t), facts{
			"ztm://" + string(m.ca.Mesh()) + "/hub/" + string(hub.id), x509.KeyUsageDigitalSignature,
			[]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, false, start.Add(-day), start.Add(5 * year)}},
		{"member", member.cert(t), facts{
			"ztm://" + string(m.ca.Mesh()) + "/user/bob/endpoint/" + string(member.id), x509.KeyUsageDigitalSignature,
			[]x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, false, start.Add(-day), start.Add(year)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.cert
			got := facts{c.URIs[0].String(), c.KeyUsage, c.ExtKeyUsage, c.IsCA, c.NotBefore, c.NotAfter}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("certificate (-want +got):\n%s", diff)
			}
			if len(c.URIs) != 1 || !c.BasicConstraintsValid || c.SignatureAlgorithm != x509.PureEd25519 {
				t.Errorf("%d URIs, basic constraints %v, %v", len(c.URIs), c.BasicConstraintsValid, c.SignatureAlgorithm)
			}
		})
	}
	if m.ca.Mesh() != IDOf(m.ca.Certificate().PublicKey.(ed25519.PublicKey)) {
		t.Error("the mesh's ID is not that of its first CA's key")
	}
}

func TestCASurvivesMarshalling(t *testing.T) {
	m := newMesh(t)
	for name, ca := range map[string]*CA{"first": m.ca, "successor": must(m.ca.Successor(start))(t)} {
		again := must(ParseCA(ca.CertificatePEM(), ca.KeyPEM()))(t)
		if again.Mesh() != m.ca.Mesh() || !again.private().Equal(ca.private()) || !again.Certificate().Equal(ca.Certificate()) {
			t.Errorf("%s CA is another one", name)
		}
	}
}

func TestCAThatIsNotOneIsRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	member := m.member(t, "bob", start)
	tests := []struct {
		name      string
		cert, key []byte
		kind      error
		want      string
	}{
		{"another CA's key", m.ca.CertificatePEM(), other.ca.KeyPEM(), ErrKey, "does not belong"},
		{"a member's certificate", marshalCertificate(member.der), MarshalPrivateKey(member.key), ErrUntrusted, "not that of a ztm mesh"},
		{"no certificate", nil, m.ca.KeyPEM(), ErrUntrusted, "not PEM"},
		{"no key", m.ca.CertificatePEM(), nil, ErrKey, "not PEM"},
		{"damaged certificate", marshalCertificate(m.ca.cert.Raw[:100]), m.ca.KeyPEM(), ErrUntrusted, "CA certificate"},
		{"altered certificate", marshalCertificate(flip(m.ca.cert.Raw, len(m.ca.cert.Raw)-1)), m.ca.KeyPEM(), ErrUntrusted, "verification"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseCA(tt.cert, tt.key)
			wantError(t, err, tt.kind, tt.want)
		})
	}
}

// flip returns a copy of b with one bit changed.
func flip(b []byte, i int) []byte {
	c := append([]byte(nil), b...)
	c[i] ^= 1
	return c
}

func TestCARefusesToSignNonsense(t *testing.T) {
	m := newMesh(t)
	key := newDevice(t).public()
	sign := func(ca *CA, key ed25519.PublicKey, user string, admitted, now time.Time) error {
		_, err := ca.SignMember(key, user, admitted, now)
		return err
	}
	wantError(t, sign(m.ca, key, "../root", start, start), ErrName, "letter or digit")
	wantError(t, sign(m.ca, key[1:], "bob", start, start), ErrKey, "31 bytes")
	wantError(t, sign(nil, key, "bob", start, start), ErrNoCA, "CA key")
	wantError(t, sign(m.ca, key, "bob", start, start.Add(21*year)), ErrExpired, "the mesh's CA: certificate expired")
	wantError(t, sign(m.ca, key, "bob", start, start.Add(-2*day)), ErrNotYetValid, "is it right?")
	if sign(m.ca, key, "bob", time.Time{}, start) == nil {
		t.Error("an admission time of zero was signed")
	}
}

func TestCertificateDoesNotOutliveItsCA(t *testing.T) {
	m := newMesh(t)
	late := m.hub(t, start.Add(19*year))
	if got, want := late.cert(t).NotAfter, m.ca.Certificate().NotAfter; !got.Equal(want) {
		t.Errorf("hub certificate ends %v, its CA %v", got, want)
	}
}

func TestACertificateIsLimitedByItsSignerAndNotByTheEndOfItsCA(t *testing.T) {
	m := newMesh(t)
	late := start.Add(CALifetime - 100*day)
	next := must(m.ca.Successor(late))(t)
	rotated := must(m.trust.Rotate(m.ca, next, late.Add(50*day), late))(t)
	for _, test := range []struct {
		ca      *CA
		now     time.Time
		life    time.Duration
		limited bool
	}{
		{m.ca, start, MemberLifetime, false},
		{m.ca, start, MemberLifetime - time.Second, true},
		{m.ca, late, MemberLifetime, false}, // it ends with the CA
		{m.ca, late, 200 * day, true},       // so does this one, and the access ends later
		{m.ca, late, 100 * day, true},       // at the same time
		{m.ca, late, 30 * day, true},
		{next, late, MemberLifetime, false},
		{next, late, 200 * day, true},
	} {
		d := newDevice(t)
		d.der = must(test.ca.LimitMember(d.public(), "bob", test.now, test.now, test.life))(t)
		trusts := []*Trust{rotated}
		if test.ca == m.ca {
			trusts = append(trusts, m.trust)
		}
		for _, trust := range trusts {
			if s := must(trust.inspect(d.cert(t), RoleMember))(t); s.Limited != test.limited {
				t.Errorf("signed %v for %v: limited is %v, it ends %v", test.now, test.life, !test.limited, s.NotAfter)
			}
		}
	}
}

func TestCAThatIsNotHeldHasNothing(t *testing.T) {
	var ca *CA
	if ca.Mesh() != "" || ca.Certificate() != nil || ca.CertificatePEM() != nil || ca.KeyPEM() != nil {
		t.Error("a nil CA has something")
	}
	_, hub := ca.SignHub(nil, start)
	_, next := ca.Successor(start)
	_, token := ca.NewToken("bob", "", start, start)
	_, proof := ca.CheckProof(Proof{}, nil, "", "", start)
	_, evict := newMesh(t).trust.Evict(ca, "bob", start)
	_, rotate := newMesh(t).trust.Rotate(ca, ca, start, start)
	for _, err := range []error{hub, next, token, proof, evict, rotate} {
		wantError(t, err, ErrNoCA, "")
	}
}

func TestCAOfAnotherFormIsRefused(t *testing.T) {
	d := newDevice(t)
	for name, alter := range map[string]func(c *x509.Certificate){
		"unaltered":            nil,
		"is no CA":             func(c *x509.Certificate) { c.IsCA, c.MaxPathLenZero = false, false },
		"may have others sign": func(c *x509.Certificate) { c.MaxPathLenZero = false },
		"may sign other":       func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCRLSign },
		"is of no mesh":        func(c *x509.Certificate) { c.URIs = nil },
		"is a hub's too":       func(c *x509.Certificate) { c.URIs[0].Path = "/hub/" + string(d.id) },
	} {
		c := must(template(start, start, CALifetime))(t)
		c.Subject.CommonName = "x"
		c.URIs = append(c.URIs, meshURI(d.id))
		c.IsCA, c.MaxPathLenZero, c.KeyUsage = true, true, x509.KeyUsageCertSign
		if alter != nil {
			alter(c)
		}
		der := must(x509.CreateCertificate(rand.Reader, c, c, d.public(), d.key))(t)
		if _, err := NewTrust(marshalCertificate(der)); (err == nil) != (alter == nil) {
			t.Errorf("a CA that %s: %v", name, err)
		}
	}
}
