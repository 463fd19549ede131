// Package document has the form of what devices sign, keep and pass on:
//
//	{"payload":{...},"signature":"base64"}
//
// The signature is over a context that names the kind of document, a zero byte, and the payload's
// bytes as they stand.
//
// A document has one form only, so that nobody can make a second document of a signed one: what
// json.Marshal writes, that is members in the order of the Go type, no white space, and <, >, & as
// \u003c, \u003e, \u0026. Whose key counts, and what a payload may say, is not known here.
package document

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
)

// Signed is a document that was taken apart.
type Signed struct {
	Payload   json.RawMessage `json:"payload"`
	Signature []byte          `json:"signature"`
}

// ErrForm is that a document has another form than the one that it may have.
var ErrForm = errors.New("not in canonical form")

// Message is what is signed: bytes in a context.
func Message(context string, payload []byte) []byte {
	m := make([]byte, 0, len(context)+1+len(payload))
	m = append(m, context...)
	m = append(m, 0)
	return append(m, payload...)
}

// Sign makes a document of a payload.
func Sign(context string, payload any, key ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(Signed{Payload: body, Signature: ed25519.Sign(key, Message(context, body))})
}

// Parse reads a document into payload, a pointer. Nothing in it is to be believed before
// [Signed.Verify] says so with the key that the payload leads to. The caller has checked the
// document's length.
func Parse(doc []byte, payload any) (*Signed, error) {
	s := new(Signed)
	if err := JSON(doc, s); err != nil {
		return nil, err
	}
	if err := Canonical(s.Payload, payload); err != nil {
		return nil, err
	}
	again, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, doc) {
		return nil, ErrForm
	}
	return s, nil
}

// Split takes a document apart, by its form alone: the payload is not read. A document that has
// another form is refused, as [Parse] would refuse it.
func Split(doc []byte) (*Signed, error) {
	const before, between, after = `{"payload":`, `,"signature":"`, `"}`
	text := base64.StdEncoding.EncodedLen(ed25519.SignatureSize)
	end := len(doc) - len(between) - text - len(after)
	if end < len(before) || !bytes.HasPrefix(doc, []byte(before)) || !bytes.HasPrefix(doc[end:], []byte(between)) ||
		!bytes.HasSuffix(doc, []byte(after)) {
		return nil, ErrForm
	}
	signature, err := base64.StdEncoding.DecodeString(string(doc[end+len(between) : len(doc)-len(after)]))
	return &Signed{Payload: doc[len(before):end], Signature: signature}, err
}

// Verify reports whether a key has signed the document in a context.
func (s *Signed) Verify(context string, key ed25519.PublicKey) bool {
	return ed25519.Verify(key, Message(context, s.Payload), s.Signature)
}

// Canonical reads JSON that must be exactly what json.Marshal makes of the result.
func Canonical(b []byte, v any) error {
	if err := JSON(b, v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return ErrForm
	}
	return nil
}

// JSON reads one JSON value without unknown fields and with nothing after it.
func JSON(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON value")
	}
	return nil
}
