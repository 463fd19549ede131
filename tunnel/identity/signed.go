package identity

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
)

// signed is the form of the documents that devices keep and pass on:
// {"payload":{...},"signature":"base64"}. The signature is over a context that names the kind of
// document, a zero byte, and the payload's bytes as they stand.
//
// A document has one form only, so that nobody can make a second document of a signed one: what
// json.Marshal writes, that is members in the order of the Go type, no white space, and <, >, & as
// \u003c, \u003e, \u0026.
type signed struct {
	Payload   json.RawMessage `json:"payload"`
	Signature []byte          `json:"signature"`
}

var errNotCanonical = errors.New("not in canonical form")

func message(context string, payload []byte) []byte {
	m := make([]byte, 0, len(context)+1+len(payload))
	m = append(m, context...)
	m = append(m, 0)
	return append(m, payload...)
}

// signDocument makes a document of a payload.
func signDocument(context string, payload any, key ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signed{Payload: body, Signature: ed25519.Sign(key, message(context, body))})
}

// Sign returns a document of the mesh, which its CA signs. context names the kind of document.
func (ca *CA) Sign(context string, payload any) ([]byte, error) {
	return signDocument(context, payload, ca.private())
}

// Signed reads a document of the mesh into payload, a pointer, and returns which CA has signed it;
// see [Trust.Newest]. The caller has checked the document's length. Errors match [ErrUntrusted].
func (t *Trust) Signed(context string, doc []byte, payload any) (by ID, err error) {
	body, signature, err := openDocument(doc)
	for i, ca := range t.cas {
		if err == nil && (&signed{body, signature}).verify(context, publicKey(ca)) {
			if _, err := parseDocument(doc, payload); err != nil {
				return "", failf(ErrUntrusted, "%s: %v", context, err)
			}
			return t.ids[i], nil
		}
	}
	return "", failf(ErrUntrusted, "%s has no valid signature", context)
}

// parseDocument reads a document into payload, a pointer. Nothing in it is to be believed before
// verify says so with the key that the payload leads to. The caller has checked the document's
// length.
func parseDocument(doc []byte, payload any) (*signed, error) {
	s := new(signed)
	if err := parseJSON(doc, s); err != nil {
		return nil, err
	}
	if err := parseCanonical(s.Payload, payload); err != nil {
		return nil, err
	}
	again, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, doc) {
		return nil, errNotCanonical
	}
	return s, nil
}

// openDocument takes a document apart, by its form alone: the payload is not read. A document that
// has another form is refused, as parseDocument would refuse it.
func openDocument(doc []byte) (payload, signature []byte, err error) {
	const before, between, after = `{"payload":`, `,"signature":"`, `"}`
	text := base64.StdEncoding.EncodedLen(ed25519.SignatureSize)
	end := len(doc) - len(between) - text - len(after)
	if end < len(before) || !bytes.HasPrefix(doc, []byte(before)) || !bytes.HasPrefix(doc[end:], []byte(between)) ||
		!bytes.HasSuffix(doc, []byte(after)) {
		return nil, nil, errNotCanonical
	}
	signature, err = base64.StdEncoding.DecodeString(string(doc[end+len(between) : len(doc)-len(after)]))
	return doc[len(before):end], signature, err
}

func (s *signed) verify(context string, key ed25519.PublicKey) bool {
	return ed25519.Verify(key, message(context, s.Payload), s.Signature)
}

// parseCanonical reads JSON that must be exactly what json.Marshal makes of the result.
func parseCanonical(b []byte, v any) error {
	if err := parseJSON(b, v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errNotCanonical
	}
	return nil
}

// parseJSON reads one JSON value without unknown fields and with nothing after it.
func parseJSON(b []byte, v any) error {
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
