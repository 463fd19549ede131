package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"fmt"

	"ztm/tunnel/identity/document"
)

// MaxStatement is the largest signed statement, in bytes.
const MaxStatement = 64 << 10

// SignStatement returns a signed document of an endpoint: a statement that outlives the session
// that it is passed on in, such as what a published file is. context names the kind of statement.
// The endpoint's certificate goes beside the document, so that many of them need it once. Errors
// match [ErrStatement].
func SignStatement(context string, payload any, key ed25519.PrivateKey) ([]byte, error) {
	doc, err := document.Sign(context, payload, key)
	if err != nil {
		return nil, failf(ErrStatement, "%s: %v", context, err)
	}
	if len(doc) > MaxStatement {
		return nil, failf(ErrStatement, "%s: is larger than %d bytes", context, MaxStatement)
	}
	return doc, nil
}

// Statement reads a signed statement into payload, a pointer, and returns who signed it. The dates
// of the certificate do not count: what an endpoint has said stays said while the endpoint is
// away. That its user was evicted counts, and that the CA was retired. Errors match [ErrStatement], or they are those of
// [Trust.Verify].
func (v *Verifier) Statement(context string, doc, certificate []byte, payload any) (Subject, error) {
	if len(doc) > MaxStatement {
		return Subject{}, failf(ErrStatement, "%s: is larger than %d bytes", context, MaxStatement)
	}
	signed, err := document.Parse(doc, payload)
	if err != nil {
		return Subject{}, failf(ErrStatement, "%s: %v", context, err)
	}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return Subject{}, failf(ErrStatement, "%s: certificate: %v", context, err)
	}
	t := v.Trust()
	s, err := t.inspect(cert, RoleMember)
	if err != nil {
		return Subject{}, fmt.Errorf("%s: %w", context, err)
	}
	if err := t.checkCA(s.Issuer, v.clock.Now()); err != nil {
		return Subject{}, fmt.Errorf("%s: %w", context, err)
	}
	if t.Evicted(s) {
		return Subject{}, failf(ErrEvicted, "%s: user %s was evicted", context, s.User)
	}
	if !signed.Verify(context, s.Key) {
		return Subject{}, failf(ErrStatement, "%s: is not signed by the key of the certificate", context)
	}
	return s, nil
}

// Sign returns a document of the mesh, which its CA signs. context names the kind of document.
func (ca *CA) Sign(context string, payload any) ([]byte, error) {
	return document.Sign(context, payload, ca.private())
}

// Signed reads a document of the mesh into payload, a pointer, and returns which CA has signed it;
// see [Trust.Newest]. The caller has checked the document's length. Errors match [ErrUntrusted].
func (t *Trust) Signed(context string, doc []byte, payload any) (by ID, err error) {
	signed, err := document.Split(doc)
	for i, ca := range t.cas {
		if err == nil && signed.Verify(context, publicKey(ca)) {
			if _, err := document.Parse(doc, payload); err != nil {
				return "", failf(ErrUntrusted, "%s: %v", context, err)
			}
			return t.ids[i], nil
		}
	}
	return "", failf(ErrUntrusted, "%s has no valid signature", context)
}
