package document

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"testing"
)

type payload struct {
	Name string `json:"name"`
	N    int    `json:"n,omitempty"`
}

func key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)) }

func signed(t testing.TB, context string, p payload) []byte {
	t.Helper()
	doc, err := Sign(context, p, key())
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestADocumentIsGoodInItsContextAndByItsKeyAlone(t *testing.T) {
	doc := signed(t, "one", payload{Name: "<x>", N: 1})
	var p payload
	s, err := Parse(doc, &p)
	if err != nil || p != (payload{"<x>", 1}) {
		t.Fatalf("%+v, %v", p, err)
	}
	public := key().Public().(ed25519.PublicKey)
	other := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if !s.Verify("one", public) || s.Verify("two", public) || s.Verify("one", other) {
		t.Error("a signature is good where it should not be, or not good where it should")
	}
}

func TestADocumentHasOneForm(t *testing.T) {
	doc := signed(t, "one", payload{Name: "x"})
	swap := func(old, new string) []byte { return bytes.Replace(doc, []byte(old), []byte(new), 1) }
	for name, bad := range map[string][]byte{
		"white space":          swap(`{"name"`, `{ "name"`),
		"an unknown field":     swap(`"name":"x"`, `"name":"x","m":1`),
		"a field that is zero": swap(`"name":"x"`, `"name":"x","n":0`),
		"a field twice":        swap(`"name":"x"`, `"name":"y","name":"x"`),
		"another case":         swap(`"name"`, `"Name"`),
		"an escape":            swap(`"x"`, `"\u0078"`),
		"something behind it":  append(bytes.Clone(doc), ' '),
		"nothing":              nil,
	} {
		if _, err := Parse(bad, new(payload)); err == nil {
			t.Errorf("%s: %s is read", name, bad)
		}
	}
}

// FuzzDocument has Split and Parse mean the same documents, and each be written as it was read.
func FuzzDocument(f *testing.F) {
	f.Add(signed(f, "one", payload{Name: "x", N: 2}))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc, new(payload))
		if err != nil {
			return
		}
		if again, err := json.Marshal(s); err != nil || !bytes.Equal(again, doc) {
			t.Errorf("%s became %s, %v", doc, again, err)
		}
		if len(s.Signature) != ed25519.SignatureSize {
			return // Verify refuses it
		}
		other, err := Split(doc)
		if err != nil || !bytes.Equal(other.Payload, s.Payload) || !bytes.Equal(other.Signature, s.Signature) {
			t.Errorf("%s is split in another way: %v", doc, err)
		}
	})
}
