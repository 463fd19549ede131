package identity

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"time"

	"ztm/tunnel/unixtime"
)

// How long certificates are valid. Members renew from two thirds of theirs on.
const (
	CALifetime     = 20 * 365 * 24 * time.Hour
	HubLifetime    = 5 * 365 * 24 * time.Hour
	MemberLifetime = 365 * 24 * time.Hour

	// setBack is how far before its making a certificate becomes valid, for peers whose clocks are
	// behind.
	setBack = 24 * time.Hour
)

// CA is the certificate authority of a mesh: its certificate and its private key. The holder of the
// key is root: it admits and evicts users. A nil *CA is one that is not held: it has no mesh and no
// certificate, and signs nothing. A CA is immutable; all methods may be called from any goroutine.
type CA struct {
	cert *x509.Certificate
	mesh ID
	key  secret
}

// NewCA bootstraps a mesh: it makes the mesh's first CA, whose key gives the mesh its ID.
func NewCA(now time.Time) (*CA, error) {
	return newCA("", now)
}

// Successor makes the CA that [Trust.Rotate] puts in ca's place: same mesh, new key.
func (ca *CA) Successor(now time.Time) (*CA, error) {
	if ca == nil {
		return nil, ErrNoCA
	}
	return newCA(ca.mesh, now)
}

// newCA makes a CA of a mesh, or of a new mesh where mesh is "".
func newCA(mesh ID, now time.Time) (*CA, error) {
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	public := key.Public().(ed25519.PublicKey)
	if mesh == "" {
		mesh = IDOf(public)
	}
	t, err := template(now, now, CALifetime)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: "ztm mesh " + string(mesh)}
	t.URIs = append(t.URIs, meshURI(mesh))
	t.IsCA, t.MaxPathLenZero, t.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, t, t, public, key)
	if err != nil {
		return nil, fmt.Errorf("signing the CA certificate: %v", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the CA certificate: %v", err)
	}
	return &CA{cert: cert, mesh: mesh, key: hide(key)}, nil
}

// ParseCA reads what [CA.CertificatePEM] and [CA.KeyPEM] wrote.
func ParseCA(certPEM, keyPEM []byte) (*CA, error) {
	cert, mesh, err := parseCACertificate(certPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParsePrivateKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	if !key.Public().(ed25519.PublicKey).Equal(cert.PublicKey) {
		return nil, failf(ErrKey, "CA key does not belong to the CA certificate")
	}
	return &CA{cert: cert, mesh: mesh, key: hide(key)}, nil
}

// Mesh returns the ID of the mesh: that of its first CA's key, also after a rotation.
func (ca *CA) Mesh() ID {
	if ca == nil {
		return ""
	}
	return ca.mesh
}

// ID returns the hash of the CA's public key: what tells it from the CAs before and after it; ""
// for a nil CA.
func (ca *CA) ID() ID {
	if ca == nil {
		return ""
	}
	return IDOf(publicKey(ca.cert))
}

// Certificate returns the CA's certificate, which the caller must not change; nil for a nil CA.
func (ca *CA) Certificate() *x509.Certificate {
	if ca == nil {
		return nil
	}
	return ca.cert
}

// CertificatePEM returns the CA's certificate; nil for a nil CA.
func (ca *CA) CertificatePEM() []byte {
	if ca == nil {
		return nil
	}
	return marshalCertificate(ca.cert.Raw)
}

// KeyPEM returns the CA's private key: the greatest secret of a mesh; nil for a nil CA.
func (ca *CA) KeyPEM() []byte {
	if ca == nil {
		return nil
	}
	return MarshalPrivateKey(ca.private())
}

func (ca *CA) private() ed25519.PrivateKey { return ca.key() }

// SignMember signs the certificate of an endpoint of a user, valid for [MemberLifetime]. admitted
// is when the user was invited (see [Trust.Admission]), to the second; a renewal keeps it.
func (ca *CA) SignMember(key ed25519.PublicKey, user string, admitted, now time.Time) (der []byte, err error) {
	return ca.LimitMember(key, user, admitted, now, MemberLifetime)
}

// LimitMember is [CA.SignMember] for at most life, see [Subject].
func (ca *CA) LimitMember(key ed25519.PublicKey, user string, admitted, now time.Time, life time.Duration) (der []byte, err error) {
	if err := CheckName(user); err != nil {
		return nil, fmt.Errorf("user: %w", err)
	}
	return ca.sign(Subject{Role: RoleMember, User: user, Key: key, Admitted: admitted}, x509.ExtKeyUsageClientAuth, now, min(life, MemberLifetime))
}

// SignHub signs the certificate of a hub that is admitted now, valid for [HubLifetime].
func (ca *CA) SignHub(key ed25519.PublicKey, now time.Time) (der []byte, err error) {
	return ca.AdmitHub(key, now, now)
}

// AdmitHub is [CA.SignHub] for a hub that is admitted at another time: a renewal keeps it, so that
// an eviction which the signer has not heard of voids what it signs, too.
func (ca *CA) AdmitHub(key ed25519.PublicKey, admitted, now time.Time) (der []byte, err error) {
	s := Subject{Role: RoleHub, Key: key, Admitted: admitted}
	return ca.sign(s, x509.ExtKeyUsageServerAuth, now, HubLifetime)
}

func (ca *CA) sign(s Subject, use x509.ExtKeyUsage, now time.Time, life time.Duration) ([]byte, error) {
	if ca == nil {
		return nil, ErrNoCA
	}
	if len(s.Key) != ed25519.PublicKeySize {
		return nil, failf(ErrKey, "public key has %d bytes, want %d", len(s.Key), ed25519.PublicKeySize)
	}
	if err := checkDates(ca.cert.NotBefore, ca.cert.NotAfter, now); err != nil {
		return nil, fmt.Errorf("the mesh's CA: %w", err)
	}
	t, err := template(s.Admitted, now, life)
	if err != nil {
		return nil, err
	}
	last := ca.cert.NotAfter
	if s.Role == RoleMember && life < MemberLifetime {
		last = last.Add(-time.Second) // what ends with the CA is not limited
	}
	if t.NotAfter.After(last) {
		t.NotAfter = last
	}
	s.Mesh, s.ID = ca.mesh, IDOf(s.Key)
	t.URIs = append(t.URIs, s.uri())
	t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{use}
	der, err := x509.CreateCertificate(rand.Reader, t, ca.cert, s.Key, ca.private())
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %v", err)
	}
	return der, nil
}

// template returns what all our certificates have in common.
func template(admitted, now time.Time, life time.Duration) (*x509.Certificate, error) {
	serial, err := newSerial(admitted)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-setBack),
		NotAfter:              now.Add(life),
		BasicConstraintsValid: true,
	}, nil
}

// A serial number has 16 bytes: the admission time in Unix seconds, big endian, then random bytes.
const (
	serialBytes   = 16
	admittedBytes = 8
)

func newSerial(admitted time.Time) (*big.Int, error) {
	seconds := admitted.Unix()
	if seconds <= 0 || unixtime.Of(admitted) > unixtime.MaxSeconds {
		return nil, fmt.Errorf("admission time %s is not in the years 1970 to 9999", unixtime.Text(admitted))
	}
	var b [serialBytes]byte
	binary.BigEndian.PutUint64(b[:], uint64(seconds))
	rand.Read(b[admittedBytes:]) // does not fail
	return new(big.Int).SetBytes(b[:]), nil
}

// admittedOf reads the admission time from a serial number.
func admittedOf(serial *big.Int) (time.Time, bool) {
	if serial.Sign() <= 0 || serial.BitLen() >= serialBytes*8 {
		return time.Time{}, false
	}
	var b [serialBytes]byte
	seconds := binary.BigEndian.Uint64(serial.FillBytes(b[:])[:admittedBytes])
	return time.Unix(int64(seconds), 0), 0 < seconds && seconds <= uint64(unixtime.MaxSeconds)
}

// parseCACertificate reads the certificate of a CA from PEM and returns it with the mesh it is for.
func parseCACertificate(text []byte) (*x509.Certificate, ID, error) {
	der, err := onePEM(text, pemCertificate)
	if err != nil {
		return nil, "", failf(ErrUntrusted, "CA certificate: %v", err)
	}
	return checkCA(der)
}

// checkCA parses and checks the certificate of a CA: what it may do, its mesh, its signature. It
// does not say that the CA is to be trusted.
func checkCA(der []byte) (*x509.Certificate, ID, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, "", failf(ErrUntrusted, "CA certificate: %v", err)
	}
	uri, _ := soleURI(cert)
	mesh, ok := parseMeshURI(uri)
	ca := cert.BasicConstraintsValid && cert.IsCA && cert.MaxPathLenZero && cert.KeyUsage == x509.KeyUsageCertSign
	if !ok || !ca || !plain(cert) || len(cert.SubjectKeyId) == 0 {
		return nil, "", failf(ErrUntrusted, "CA certificate is not that of a ztm mesh")
	}
	if err := cert.CheckSignatureFrom(cert); err != nil {
		return nil, "", failf(ErrUntrusted, "CA certificate: %v", err)
	}
	return cert, mesh, nil
}

// Format writes what may be seen of a CA, for every verb.
func (ca *CA) Format(f fmt.State, _ rune) { io.WriteString(f, ca.String()) }

// String names the CA without its key.
func (ca *CA) String() string { return "CA of mesh " + string(ca.Mesh()) }

// LogValue names the CA without its key.
func (ca *CA) LogValue() slog.Value { return slog.StringValue(ca.String()) }

// secret is bytes that formatting cannot reach. The types that hold one redact themselves, but fmt
// does not ask an unexported field to, and then follows pointers: it never calls functions.
type secret func() []byte

func hide(b []byte) secret { return func() []byte { return b } }
