package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/identity/document"
	"ztm/tunnel/unixtime"
)

// hubRecordOf returns a record that a hub could sign.
func hubRecordOf(d device) HubRecord {
	return HubRecord{
		ID: d.id, Names: []string{"hub.example.com:8888", "[2001:db8::1]:443"}, Zone: "berlin", Version: "v1.0",
		Weight: 2, Draining: true, Time: unixtime.MillisOf(start), Certificate: d.der,
	}
}

func TestAHubRecordSurvivesSigning(t *testing.T) {
	m := newMesh(t)
	hub := m.hub(t, start)
	for name, want := range map[string]HubRecord{
		"full":  hubRecordOf(hub),
		"small": {ID: hub.id, Names: []string{"h:1"}, Certificate: hub.der},
	} {
		doc := must(SignHubRecord(want, hub.key))(t)
		got, s, err := m.verifier().HubRecord(doc)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: record (-want +got):\n%s", name, diff)
		}
		if s.ID != hub.id || s.Role != RoleHub {
			t.Errorf("%s: subject %v", name, s)
		}
	}
}

func TestAHubRecordThatTheHubDidNotSignIsRefused(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	hub, mallory, foreign, bob := m.hub(t, start), m.hub(t, start), other.hub(t, start), m.member(t, "bob", start)
	signed := func(r HubRecord, d device) []byte { return must(document.Sign(hubContext, r, d.key))(t) }
	with := func(r HubRecord, alter func(r *HubRecord)) HubRecord { alter(&r); return r }
	tests := []struct {
		name string
		doc  []byte
		kind error
		text string
	}{
		{"signed by another", signed(hubRecordOf(hub), mallory), ErrRecord, "not signed by the hub's key"},
		{"another's ID", signed(with(hubRecordOf(mallory), func(r *HubRecord) { r.ID = hub.id }), mallory), ErrRecord, "is for ID"},
		{"another kind of document", must(document.Sign(recordContext, hubRecordOf(hub), hub.key))(t), ErrRecord, "not signed"},
		{"a member's", signed(hubRecordOf(bob), bob), ErrWrongRole, "hub record: this is a member's"},
		{"another mesh's", signed(hubRecordOf(foreign), foreign), ErrWrongMesh, "another mesh"},
		{"no certificate", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Certificate = nil }), hub), ErrRecord, "certificate"},
		{"no names", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Names = nil }), hub), ErrRecord, "0 names"},
		{"many names", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Names = make([]string, maxHubNames+1) }), hub), ErrRecord, "9 names"},
		{"no name", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Names = []string{"h:1\n"} }), hub), ErrRecord, "name"},
		{"zone", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Zone = "a\x1b[2J" }), hub), ErrRecord, "zone"},
		{"version", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Version = "\x07" }), hub), ErrRecord, "version"},
		{"weight", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.Weight = -1 }), hub), ErrRecord, "weight"},
		{"ID", signed(with(hubRecordOf(hub), func(r *HubRecord) { r.ID = "x" }), hub), ErrRecord, "not an ID"},
		{"empty", nil, ErrRecord, "hub record"},
		{"too large", make([]byte, MaxHubRecord+1), ErrRecord, "larger"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := m.verifier().HubRecord(tt.doc)
			wantError(t, err, tt.kind, tt.text)
		})
	}
	_, err := SignHubRecord(hubRecordOf(hub), mallory.key)
	wantError(t, err, ErrRecord, "not that of the key")
	_, err = SignHubRecord(HubRecord{}, hub.key)
	wantError(t, err, ErrRecord, "not an ID")
}

func TestAnAttachIsGoodForItsHubAndItsKeyAlone(t *testing.T) {
	m := newMesh(t)
	hub, other, bob, mallory := m.hub(t, start), m.hub(t, start), m.member(t, "bob", start), m.member(t, "mallory", start)
	want := Attach{ID: bob.id, Hub: hub.id, Instance: "once", Since: unixtime.MillisOf(start)}
	doc := must(SignAttach(want, bob.key))(t)
	if got, err := OpenAttach(doc, bob.public(), hub.id); err != nil || got != want {
		t.Fatalf("%v, %v", got, err)
	}
	_, err := OpenAttach(doc, bob.public(), other.id)
	wantError(t, err, ErrRecord, "is for hub")
	_, err = OpenAttach(doc, mallory.public(), hub.id)
	wantError(t, err, ErrRecord, "not signed")
	_, err = OpenAttach(doc, nil, hub.id)
	wantError(t, err, ErrRecord, "not signed")
	_, err = OpenAttach(must(document.Sign(attachContext, want, mallory.key))(t), bob.public(), hub.id)
	wantError(t, err, ErrRecord, "not signed")
	_, err = OpenAttach(make([]byte, MaxAttach+1), bob.public(), hub.id)
	wantError(t, err, ErrRecord, "larger")
	_, err = OpenAttach([]byte("{}"), bob.public(), hub.id)
	wantError(t, err, ErrRecord, "attach")

	_, err = SignAttach(want, mallory.key)
	wantError(t, err, ErrRecord, "not that of the key")
	for _, bad := range []Attach{
		{ID: bob.id, Hub: "x", Instance: "once"},
		{ID: bob.id, Hub: hub.id},
		{ID: bob.id, Hub: hub.id, Instance: strings.Repeat("x", maxInstanceBytes+1)},
		{ID: bob.id, Hub: hub.id, Instance: "once", Since: -1},
	} {
		_, err := SignAttach(bad, bob.key)
		wantError(t, err, ErrRecord, "attach")
	}
}

func TestProtocolsBetweenHubsAreForHubsAlone(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	hub, second, foreign, bob := m.hub(t, start), m.hub(t, start), other.hub(t, start), m.member(t, "bob", start)
	v := m.verifier()
	server := v.ServerConfig(hub.tls, testProto, HubProto, HopProto, JoinProto)
	tests := []struct {
		name  string
		cert  tls.Certificate
		proto string
		kind  error
	}{
		{"a hub on a link", second.tls(), HubProto, nil},
		{"a hub on a hop", second.tls(), HopProto, nil},
		{"a member", bob.tls(), testProto, nil},
		{"a member on a link", bob.tls(), HubProto, ErrWrongRole},
		{"a member on a hop", bob.tls(), HopProto, ErrWrongRole},
		{"a hub as a member", second.tls(), testProto, ErrWrongRole},
		{"a hub of another mesh", foreign.tls(), HubProto, ErrWrongMesh},
		{"a hub that joins", second.tls(), JoinProto, ErrUntrusted},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := handshake(t, v.ClientConfig(tt.cert, RoleHub, hub.id, tt.proto), server)
			if tt.kind != nil {
				wantError(t, s.err, tt.kind, "")
			} else if c.err != nil || s.err != nil {
				t.Errorf("client %v, server %v", c.err, s.err)
			}
		})
	}
}

func TestAHubPermitGivesAHubItsCertificate(t *testing.T) {
	m, other := newMesh(t), newMesh(t)
	hub, second, bob := m.hub(t, start), m.hub(t, start), m.member(t, "bob", start)
	permit := func(d device, names ...string) Permit {
		return Permit{Mesh: m.ca.Mesh(), CA: string(m.ca.CertificatePEM()), Bootstraps: []string{"hub:1"},
			Hub: &PermitHub{Certificate: string(marshalCertificate(d.der)), Names: names}}
	}
	p := permit(hub, "hub2:1")
	read := must(ParsePermit(must(p.Marshal())(t)))(t)
	if der, err := read.CheckHub(hub.public(), start); err != nil || !bytes.Equal(der, hub.der) {
		t.Errorf("%x, %v", der, err)
	}
	_, err := read.CheckHub(second.public(), start)
	wantError(t, err, ErrWrongID, "is for another hub")
	_, err = read.CheckHub(hub.public(), start.Add(6*year))
	wantError(t, err, ErrExpired, "")
	_, err = read.CheckCertificate(bob.public(), start)
	wantError(t, err, ErrPermit, "ztm run hub")
	_, err = (&Permit{}).CheckHub(hub.public(), start)
	wantError(t, err, ErrPermit, "not for a hub")

	for text, bad := range map[string]Permit{
		"this is a member's certificate": permit(bob),
		"of another mesh":                permit(other.hub(t, start)),
		"permit: name":                   permit(hub, "hub2"),
		"9 names":                        permit(hub, strings.Split(strings.Repeat("h:1 ", 9), " ")[:9]...),
		"not PEM":                        {Mesh: m.ca.Mesh(), CA: p.CA, Bootstraps: p.Bootstraps, Hub: &PermitHub{}},
	} {
		if _, err := bad.Marshal(); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// FuzzHubRecordPayload signs what it is given, so that what lies behind the signature is reached,
// too.
func FuzzHubRecordPayload(f *testing.F) {
	v := loadVectors(f)
	hub := v.Hub.device(f)
	payload := must(json.Marshal(hubRecordOf(hub)))(f)
	f.Add(payload)
	verifier := NewVerifier(must(NewTrust(v.CA.ca(f).CertificatePEM()))(f), NewClock(start))
	f.Fuzz(func(t *testing.T, payload []byte) {
		verifier.HubRecord(payload)
		doc, err := json.Marshal(document.Signed{Payload: payload, Signature: ed25519.Sign(hub.key, document.Message(hubContext, payload))})
		if err != nil {
			return
		}
		r, s, err := verifier.HubRecord(doc)
		if err != nil {
			return
		}
		if s.ID != v.Hub.ID || r.ID != s.ID {
			t.Errorf("record of %s by %s", r.ID, s.ID)
		}
		if again := must(SignHubRecord(r, hub.key))(t); !bytes.Equal(again, doc) {
			t.Errorf("%s\nbecame\n%s", doc, again)
		}
	})
}

// FuzzAttach does the same with what an endpoint signs for a hub.
func FuzzAttach(f *testing.F) {
	v := loadVectors(f)
	bob := v.Member.device(f)
	f.Add(must(json.Marshal(Attach{ID: bob.id, Hub: v.Hub.ID, Instance: "once", Since: 1}))(f))
	f.Fuzz(func(t *testing.T, payload []byte) {
		OpenAttach(payload, bob.public(), v.Hub.ID)
		doc, err := json.Marshal(document.Signed{Payload: payload, Signature: ed25519.Sign(bob.key, document.Message(attachContext, payload))})
		if err != nil {
			return
		}
		a, err := OpenAttach(doc, bob.public(), v.Hub.ID)
		if err != nil {
			return
		}
		if again := must(SignAttach(a, bob.key))(t); !bytes.Equal(again, doc) {
			t.Errorf("%s\nbecame\n%s", doc, again)
		}
	})
}
