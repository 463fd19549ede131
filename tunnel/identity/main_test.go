package identity

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// start is the time of the tests: so late that no machine's clock is ahead of a Clock with this
// floor.
var start = time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// TestMain fails the tests of the package when goroutines are left at the end.
func TestMain(m *testing.M) {
	status := m.Run()
	if left := leaked(); status == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left after the tests:\n\n%s\n", left)
		status = 1
	}
	os.Exit(status)
}

// leaked returns the stacks of goroutines that still run the package's code after a while.
func leaked() string {
	late := time.After(60 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		buf := make([]byte, 1<<20)
		_, others, _ := strings.Cut(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		if !strings.Contains(others, "\nztm/") {
			return ""
		}
		select {
		case <-late:
			return others
		case <-tick.C:
		}
	}
}

// must returns v, or fails the test when there is an error: must(f())(t).
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// wantError checks that an error is of a kind and says what a person needs to read.
func wantError(t *testing.T, err, kind error, text string) {
	t.Helper()
	if !errors.Is(err, kind) {
		t.Fatalf("error is %v, want one that matches %q", err, kind)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("error is %q, want one with %q", err, text)
	}
}

// mesh is a mesh for a test.
type mesh struct {
	ca    *CA
	trust *Trust
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	ca := must(NewCA(start))(t)
	return &mesh{ca: ca, trust: must(NewTrust(ca.CertificatePEM()))(t)}
}

// verifier returns a verifier whose clock says start.
func (m *mesh) verifier() *Verifier { return NewVerifier(m.trust, NewClock(start)) }

func (m *mesh) evict(t testing.TB, user string, now time.Time) {
	t.Helper()
	m.trust = must(m.trust.Evict(m.ca, user, now))(t)
}

// device is a key and its certificate.
type device struct {
	key ed25519.PrivateKey
	id  ID
	der []byte
}

func newDevice(t testing.TB) device {
	t.Helper()
	key := must(NewKey())(t)
	return device{key: key, id: IDOf(key.Public().(ed25519.PublicKey))}
}

func (d device) public() ed25519.PublicKey { return d.key.Public().(ed25519.PublicKey) }

func (d device) cert(t testing.TB) *x509.Certificate {
	t.Helper()
	return must(x509.ParseCertificate(d.der))(t)
}

// member makes an endpoint of a user, admitted and certified at a time.
func (m *mesh) member(t testing.TB, user string, now time.Time) device {
	t.Helper()
	d := newDevice(t)
	d.der = must(m.ca.SignMember(d.public(), user, now, now))(t)
	return d
}

func (m *mesh) hub(t testing.TB, now time.Time) device {
	t.Helper()
	d := newDevice(t)
	d.der = must(m.ca.SignHub(d.public(), now))(t)
	return d
}

// subject is who a device is by its certificate.
func (m *mesh) subject(t testing.TB, d device) Subject {
	t.Helper()
	s, err := m.trust.inspect(d.cert(t), RoleMember)
	if err != nil {
		s, err = m.trust.inspect(d.cert(t), RoleHub)
	}
	return must(s, err)(t)
}
