package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"
	"time"

	"ztm/tunnel/identity/document"
)

// The fuzz targets hold that no input makes a parser panic, that nothing is accepted that was not
// made by whoever has the key, and that what is accepted has one form only.

func FuzzParsePublicKey(f *testing.F) {
	v := loadVectors(f)
	f.Add(MarshalPublicKey(v.Member.device(f).public()))
	f.Add(MarshalPrivateKey(v.Member.device(f).key))
	f.Add(marshalCertificate(v.Member.Certificate))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePublicKey(text)
		if err != nil {
			return
		}
		if again := must(ParsePublicKey(MarshalPublicKey(key)))(t); !again.Equal(key) {
			t.Errorf("%x became %x", key, again)
		}
		IDOf(key)
	})
}

func FuzzParsePrivateKey(f *testing.F) {
	f.Add(MarshalPrivateKey(loadVectors(f).Member.device(f).key))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := ParsePrivateKey(text)
		if err != nil {
			return
		}
		if again := must(ParsePrivateKey(MarshalPrivateKey(key)))(t); !again.Equal(key) {
			t.Error("the key became another one")
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(string(loadVectors(f).Mesh))
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := ParseID(s); err == nil && (string(id) != s || len(s) != 32) {
			t.Errorf("%q became %q", s, id)
		}
	})
}

func FuzzSubjectURI(f *testing.F) {
	v := loadVectors(f)
	f.Add("ztm://" + string(v.Mesh) + "/hub/" + string(v.Hub.ID))
	f.Add("ztm://" + string(v.Mesh) + "/user/bob/endpoint/" + string(v.Member.ID))
	f.Add("ztm://" + string(v.Mesh))
	f.Fuzz(func(t *testing.T, s string) {
		if subject, ok := parseSubjectURI(s); ok && subject.uri().String() != s {
			t.Errorf("%q became %q", s, subject.uri())
		}
		if mesh, ok := parseMeshURI(s); ok && meshURI(mesh).String() != s {
			t.Errorf("%q became %q", s, meshURI(mesh))
		}
	})
}

func FuzzParsePermit(f *testing.F) {
	v := loadVectors(f)
	var token Token
	if err := token.UnmarshalText([]byte(v.Token)); err != nil {
		f.Fatal(err)
	}
	ca := v.CA.ca(f)
	p := Permit{Mesh: v.Mesh, CA: string(ca.CertificatePEM()), Bootstraps: []string{"hub:1"}, Token: &token,
		Trust: []byte(v.Rotated), Agent: &PermitAgent{string(marshalCertificate(v.Member.Certificate))}, CAKey: string(ca.KeyPEM())}
	f.Add(must(p.Marshal())(f))
	p.Trust, p.Agent, p.Token = nil, nil, nil
	f.Add(must(p.Marshal())(f))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		p, err := ParsePermit(file)
		if err != nil {
			return
		}
		one := must(p.Marshal())(t)
		if two := must(must(ParsePermit(one))(t).Marshal())(t); !bytes.Equal(one, two) {
			t.Errorf("%s\nbecame\n%s", one, two)
		}
	})
}

func FuzzTrustUpdate(f *testing.F) {
	v := loadVectors(f)
	ca := v.CA.ca(f)
	zero := must(NewTrust(ca.CertificatePEM()))(f)
	one := must(zero.Update([]byte(v.Evicted)))(f)
	f.Add([]byte(v.Evicted))
	f.Add([]byte(v.Rotated))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if got, err := zero.Update(doc); err == nil && string(doc) != v.Evicted && string(doc) != v.Rotated && len(doc) > 0 {
			t.Errorf("a forged list was accepted: version %d", got.Version())
		}
		if _, err := one.Update(doc); err == nil && string(doc) != v.Evicted && string(doc) != v.Rotated {
			t.Error("a forged list was accepted")
		}
		ParseTrust(doc, []byte(v.Evicted))
	})
}

// FuzzTrustList signs what it is given, so that what lies behind the signature is reached, too.
func FuzzTrustList(f *testing.F) {
	v := loadVectors(f)
	ca, next := v.CA.ca(f), v.NewCA.ca(f)
	for _, doc := range []string{v.Evicted, v.Rotated} {
		f.Add([]byte(must(document.Parse([]byte(doc), new(list)))(f).Payload))
	}
	zero := must(NewTrust(ca.CertificatePEM()))(f)
	one := must(zero.Update([]byte(v.Evicted)))(f)
	device := must(one.EvictAll(ca, time.Unix(v.Now, 0), Eviction{ID: v.Member.ID, Name: "phone", Owner: "bob", By: v.Hub.ID, Reason: "lost"}))(f)
	f.Add([]byte(must(document.Parse(device.Document(), new(list)))(f).Payload))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, signer := range []*CA{ca, next} {
			doc, err := json.Marshal(document.Signed{Payload: payload, Signature: ed25519.Sign(signer.private(), document.Message(listContext, payload))})
			if err != nil {
				return
			}
			got, err := zero.Update(doc)
			if err != nil {
				continue
			}
			if again := must(json.Marshal(got.list))(t); !bytes.Equal(again, payload) {
				t.Errorf("%s\nbecame\n%s", payload, again)
			}
			if next, err := one.Update(doc); err == nil && !next.Holds(one) {
				t.Errorf("%s\ndrops an eviction", payload)
			}
			if both, err := one.Unite(signer, time.Unix(v.Now, 0), doc); err == nil && !(both.Holds(one) && both.Holds(got)) {
				t.Errorf("%s\nloses an eviction when it is united", payload)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	v := loadVectors(f)
	f.Add([]byte(v.Record))
	verifier := NewVerifier(must(NewTrust(v.CA.ca(f).CertificatePEM()))(f), NewClock(start))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if _, s, err := verifier.Record(doc); err == nil && string(doc) != v.Record {
			t.Errorf("a forged record of %v was accepted", s)
		}
	})
}

// FuzzRecordPayload signs what it is given, so that what lies behind the signature is reached, too.
func FuzzRecordPayload(f *testing.F) {
	v := loadVectors(f)
	key := v.Member.device(f).key
	f.Add([]byte(must(document.Parse([]byte(v.Record), new(Record)))(f).Payload))
	verifier := NewVerifier(must(NewTrust(v.CA.ca(f).CertificatePEM()))(f), NewClock(start))
	f.Fuzz(func(t *testing.T, payload []byte) {
		doc, err := json.Marshal(document.Signed{Payload: payload, Signature: ed25519.Sign(key, document.Message(recordContext, payload))})
		if err != nil {
			return
		}
		r, s, err := verifier.Record(doc)
		if err != nil {
			return
		}
		if s.ID != v.Member.ID || r.ID != s.ID {
			t.Errorf("record of %s by %s", r.ID, s.ID)
		}
		if again := must(SignRecord(r, key))(t); !bytes.Equal(again, doc) {
			t.Errorf("%s\nbecame\n%s", doc, again)
		}
	})
}

func FuzzToken(f *testing.F) {
	v := loadVectors(f)
	f.Add([]byte(v.Token))
	f.Fuzz(func(t *testing.T, text []byte) {
		var token Token
		if token.UnmarshalText(text) != nil {
			return
		}
		if again := must(token.MarshalText())(t); !bytes.Equal(again, text) {
			t.Errorf("%q became %q", text, again)
		}
	})
}

func FuzzProof(f *testing.F) {
	v := loadVectors(f)
	ca, key := v.CA.ca(f), v.Joiner.device(f).public()
	f.Add(v.Proof.Statement, v.Proof.MAC, v.Name)
	f.Fuzz(func(t *testing.T, statement, mac []byte, name string) {
		p := Proof{statement, mac}
		if s, err := parseStatement(statement); err == nil {
			if again := must(json.Marshal(s))(t); !bytes.Equal(again, statement) {
				t.Errorf("%q became %q", statement, again)
			}
		}
		p.Redeemer()
		_, err := ca.CheckProof(p, key, name, v.Member.ID, start)
		same := bytes.Equal(statement, v.Proof.Statement) && bytes.Equal(mac, v.Proof.MAC) && name == v.Name
		if err == nil && !same {
			t.Errorf("a forged proof was accepted: %q", statement)
		}
	})
}
