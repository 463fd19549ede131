package identity

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// permits returns one permit of each kind: for a device, for root, and with a token.
func permits(t testing.TB) (m *mesh, bob device, member, root, token *Permit) {
	t.Helper()
	m = newMesh(t)
	m.evict(t, "carol", start)
	bob = m.member(t, "bob", start)
	basic := Permit{
		Mesh:       m.ca.Mesh(),
		CA:         string(m.ca.CertificatePEM()),
		Bootstraps: []string{"hub.example.com:8888", "192.0.2.1:443", "[2001:db8::1]:1"},
		Trust:      m.trust.Document(),
	}
	a, b, c := basic, basic, basic
	a.Agent = &PermitAgent{Certificate: string(marshalCertificate(bob.der))}
	b.CAKey = string(m.ca.KeyPEM())
	one := must(m.ca.NewToken("dave", bob.id, start, start.Add(day)))(t)
	c.Token = &one
	return m, bob, &a, &b, &c
}

func TestPermitSurvivesItsFile(t *testing.T) {
	_, _, member, root, token := permits(t)
	for name, p := range map[string]*Permit{"member": member, "root": root, "token": token} {
		t.Run(name, func(t *testing.T) {
			file := must(p.Marshal())(t)
			again := must(must(ParsePermit(file))(t).Marshal())(t)
			if diff := cmp.Diff(string(file), string(again)); diff != "" {
				t.Errorf("file (-first +second):\n%s", diff)
			}
		})
	}
}

func TestPermitHasTheNamesOfZTM(t *testing.T) {
	_, _, p, _, _ := permits(t)
	var got struct {
		CA         string   `json:"ca"`
		Bootstraps []string `json:"bootstraps"`
		Agent      struct {
			Certificate string `json:"certificate"`
		} `json:"agent"`
	}
	file := must(p.Marshal())(t)
	if err := json.Unmarshal(file, &got); err != nil {
		t.Fatal(err)
	}
	if got.CA != p.CA || got.Agent.Certificate != p.Agent.Certificate || !cmp.Equal(got.Bootstraps, p.Bootstraps) {
		t.Errorf("file:\n%s", file)
	}
	if !bytes.HasSuffix(file, []byte("\n}\n")) {
		t.Error("the file is not indented text")
	}
}

func TestPermitGivesWhatItHolds(t *testing.T) {
	m, bob, member, root, token := permits(t)
	for _, p := range []*Permit{member, root, token} {
		trust := must(ParseTrust([]byte(p.CA), p.Trust))(t)
		if trust.Version() != 1 || p.CheckMesh(m.ca.Mesh()) != nil {
			t.Errorf("trust version %d, mesh %s", trust.Version(), p.Mesh)
		}
	}
	s := must(member.CheckCertificate(bob.public(), start))(t)
	if s.User != "bob" || s.ID != bob.id {
		t.Errorf("the device becomes %v", s)
	}
	p := must(ParsePermit(must(token.Marshal())(t)))(t)
	if p.Token.User() != "dave" {
		t.Errorf("the token is for %q", p.Token.User())
	}
	if _, err := ParseCA([]byte(root.CA), []byte(root.CAKey)); err != nil {
		t.Error(err)
	}
}

func TestPermitForSomebodyElseOrAnotherTimeIsRefused(t *testing.T) {
	m, bob, p, root, _ := permits(t)
	other := newDevice(t)
	_, err := p.CheckCertificate(other.public(), start)
	wantError(t, err, ErrWrongID, "permit is for another device: its certificate is for ID "+string(bob.id)+", this device is "+string(other.id))
	_, err = p.CheckCertificate(bob.public(), start.Add(2*year))
	wantError(t, err, ErrExpired, "permit: certificate expired on 2101-01-02T03:04:05Z (this device's clock says 2102-01-02T03:04:05Z: is it right?")
	_, err = p.CheckCertificate(bob.public(), start.Add(-2*day))
	wantError(t, err, ErrNotYetValid, "permit: certificate is not valid before")
	_, err = root.CheckCertificate(bob.public(), start)
	wantError(t, err, ErrPermit, "permit has no certificate")
	wantError(t, p.CheckMesh(other.id), ErrWrongMesh, "permit is for mesh "+string(m.ca.Mesh()))

	m.evict(t, "bob", start)
	p.Trust = m.trust.Document()
	_, err = p.CheckCertificate(bob.public(), start)
	wantError(t, err, ErrEvicted, "permit: user bob was evicted")
	p.Trust = []byte("{}")
	_, err = p.CheckCertificate(bob.public(), start)
	wantError(t, err, ErrTrust, "permit: trust list")
	p.Trust, p.Agent.Certificate = nil, "x"
	_, err = p.CheckCertificate(bob.public(), start)
	wantError(t, err, ErrPermit, "permit: certificate: not PEM")
}

func TestPermitOfARotatedMeshIsOfTheNewCA(t *testing.T) {
	m := newMesh(t)
	bob := m.member(t, "bob", start)
	next := must(m.ca.Successor(start))(t)
	rotated := must(m.trust.Rotate(m.ca, next, start.Add(year), start))(t)
	p := Permit{Mesh: m.ca.Mesh(), CA: string(next.CertificatePEM()), Bootstraps: []string{"hub:1"},
		Trust: rotated.Document(), CAKey: string(next.KeyPEM()),
		Agent: &PermitAgent{Certificate: string(marshalCertificate(bob.der))}} // of the old CA, which is not retired yet
	if _, err := ParsePermit(must(p.Marshal())(t)); err != nil {
		t.Error(err)
	}
	if _, err := p.CheckCertificate(bob.public(), start); err != nil {
		t.Error(err)
	}
	p.CAKey = string(m.ca.KeyPEM())
	_, err := p.Marshal()
	wantError(t, err, ErrPermit, "does not belong to the CA certificate")
}

func TestTextThatIsNoPermitIsRefused(t *testing.T) {
	_, bob, p, _, _ := permits(t)
	file := string(must(p.Marshal())(t))
	for name, tt := range map[string]struct{ text, want string }{
		"empty":            {" \n", "permit is empty"},
		"truncated":        {file[:len(file)/2], "permit is truncated or not JSON"},
		"a key":            {string(MarshalPublicKey(bob.public())), "permit is truncated or not JSON"},
		"two permits":      {file + file, "permit is truncated or not JSON"},
		"another value":    {"[]", "permit is not a JSON object"},
		"null":             {"null", "permit has no version"},
		"of ZTM itself":    {`{"ca":"x","agent":{"certificate":"x"},"bootstraps":["a:1"]}`, "permit has no version"},
		"of a later time":  {`{"version":2,"ca":{"x":1}}`, "permit has version 2 and this ztm knows version 1 only"},
		"an unknown field": {strings.Replace(file, `"ca"`, `"x": 1, "ca"`, 1), `permit: json: unknown field "x"`},
		"a wrong type":     {strings.Replace(file, `"ca"`, `"caKey": 1, "ca"`, 1), `permit: field "caKey" has the wrong type`},
		"a broken token":   {strings.Replace(file, `"ca"`, `"token": "x", "ca"`, 1), "permit: join token is truncated or not one"},
		"too large":        {file + strings.Repeat(" ", MaxPermit), "permit is larger than 8388608 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePermit([]byte(tt.text))
			wantError(t, err, ErrPermit, tt.want)
		})
	}
}

func TestPermitThatContradictsItselfIsRefused(t *testing.T) {
	m, bob, good, _, _ := permits(t)
	other := newMesh(t)
	foreign := must(other.ca.NewToken("bob", bob.id, start, start.Add(day)))(t)
	hub := m.hub(t, start)
	certificate := func(d device) *PermitAgent { return &PermitAgent{Certificate: string(marshalCertificate(d.der))} }
	for name, tt := range map[string]struct {
		alter func(p *Permit)
		want  string
	}{
		"no CA":                        {func(p *Permit) { p.CA = "" }, "permit has no CA certificate"},
		"a CA that is none":            {func(p *Permit) { p.CA = "x" }, "permit: CA certificate: not PEM"},
		"another mesh's CA":            {func(p *Permit) { p.CA, p.Trust = string(other.ca.CertificatePEM()), nil }, "permit contradicts itself"},
		"no mesh":                      {func(p *Permit) { p.Mesh = "" }, `it is for mesh ""`},
		"another mesh's trust list":    {func(p *Permit) { other.evict(t, "x", start); p.Trust = other.trust.Document() }, "permit: trust list of another mesh"},
		"no bootstraps":                {func(p *Permit) { p.Bootstraps = nil }, "permit has 0 bootstraps"},
		"too many bootstraps":          {func(p *Permit) { p.Bootstraps = make([]string, 65) }, "permit has 65 bootstraps"},
		"a bootstrap without port":     {func(p *Permit) { p.Bootstraps[0] = "hub" }, `permit: bootstrap "hub" is not host:port`},
		"nothing to join with":         {func(p *Permit) { p.Agent = nil }, "neither a certificate nor a CA key nor a join token"},
		"a certificate that is none":   {func(p *Permit) { p.Agent.Certificate = "x" }, "permit: certificate: not PEM"},
		"another mesh's certificate":   {func(p *Permit) { p.Agent = certificate(other.member(t, "bob", start)) }, "permit: certificate of another mesh"},
		"a hub's certificate":          {func(p *Permit) { p.Agent = certificate(hub) }, "permit: this is a hub's certificate, not a member's"},
		"another CA's key":             {func(p *Permit) { p.CAKey = string(other.ca.KeyPEM()) }, "permit: CA key does not belong"},
		"a CA key that is none":        {func(p *Permit) { p.CAKey = "x" }, "permit: CA key: private key: not PEM"},
		"a token of another mesh":      {func(p *Permit) { p.Token = &foreign }, "but its join token is for mesh " + string(other.ca.Mesh())},
		"a version that is not there":  {func(p *Permit) { p.Version = -1 }, "permit has version -1"},
		"a token that is none":         {func(p *Permit) { p.Token = new(Token) }, "join token is for mesh"},
		"an agent with no certificate": {func(p *Permit) { p.Agent = new(PermitAgent) }, "permit: certificate: not PEM"},
	} {
		t.Run(name, func(t *testing.T) {
			p := *good
			p.Version = permitVersion
			p.Bootstraps = append([]string(nil), good.Bootstraps...)
			agent := *good.Agent
			p.Agent = &agent
			tt.alter(&p)
			_, err := p.Marshal()
			wantError(t, err, ErrPermit, tt.want)
			if p.Token != nil && p.Token.t == nil {
				return // has no text
			}
			_, err = ParsePermit(must(json.Marshal(p))(t))
			wantError(t, err, ErrPermit, tt.want)
		})
	}
}

func TestBootstrapsAreHostAndPort(t *testing.T) {
	for _, s := range []string{"hub:1", "hub.example.com:65535", "192.0.2.1:443", "[2001:db8::1]:80", "[fe80::1%eth0]:80", "a_b:1"} {
		if err := CheckHostPort(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "hub", ":1", "hub:", "hub:0", "hub:65536", "hub:-1", "hub:+1", "hub:http", "hub:1:2", "2001:db8::1:80",
		"user@hub:1", "hub/x:1", "http://hub:1", "h ub:1", "hub\n:1", "[fe80::1%\x1b]:1", strings.Repeat("x", 254) + ":1"} {
		if CheckHostPort(s) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func TestPermitIsCheckedByTheTimeOfUseOnly(t *testing.T) {
	m, _, p, _, _ := permits(t)
	old := newDevice(t)
	old.der = must(backdated(m.ca).SignMember(old.public(), "bob", time.Unix(1, 0), time.Unix(1e9, 0)))(t)
	p.Agent = &PermitAgent{Certificate: string(marshalCertificate(old.der))}
	if _, err := ParsePermit(must(p.Marshal())(t)); err != nil {
		t.Errorf("an expired permit cannot be read: %v", err)
	}
}
