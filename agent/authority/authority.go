// Package authority is what makes this endpoint a member of a mesh, and others:
//
//	its certificate             renew.go
//	the trust list              trust.go, lists.go, forks.go
//	the CA key, where it is     sign.go, evict.go, rotate.go
//
// It asks hubs by package control and peers by package peers, neither of which knows it.
package authority

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"ztm/agent/control"
	"ztm/agent/limits"
	"ztm/agent/peers"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
)

// RootUser is the user whose endpoints may hold the CA key.
const RootUser = identity.RootUser

// Config is what an Authority needs of the membership that it belongs to. All of it is set.
type Config struct {
	Self     identity.ID
	Key      ed25519.PrivateKey
	Log      *slog.Logger
	PeerLog  *limit.Log // of what peers can cause
	Verifier *identity.Verifier
	Book     Book
	Work     *inflight.Tracker // what the membership waits for at its end
	Life     context.Context   // of the membership

	Ends         func(user string) time.Time             // when the access of a user ends or has ended, by the policy of the mesh; zero: not
	TrustChanged func()                                  // is called when another trust list is in force
	Admitted     func(user, name string, id identity.ID) // is called when a device has joined by a token, for which this endpoint has signed
	Policy       func() []byte                           // the head of the policy for who joins; nil: there is none
}

// Authority is made with [New] and completed by Connect. Its methods may be called from any
// goroutine.
type Authority struct {
	Config
	Directory Directory        // set by Connect, constant from then on
	Control   *control.Control // set by Connect, constant from then on
	Peers     *peers.Peers     // set by Connect, constant from then on

	trusted  chan struct{} // there is a new trust list, capacity 1
	extended chan struct{} // the policy allows a longer certificate, capacity 1

	lists    *limit.Share[string] // trust lists that are read, by user
	listsOf  limit.Counts[identity.ID]
	signs    limit.Counts[struct{}] // requests for a certificate at work
	forks    limit.Counts[struct{}] // lists of others that are being united with one's own
	passed   passedOn               // lists that the hub was shown because they differ
	renewals *limit.Buckets[identity.ID]
	handing  atomic.Int64 // rounds of handOn that were asked for, one of which runs; 0: none does

	trustMu  sync.Mutex // held while a trust list is taken: the newest must be the one on disk
	rotateMu sync.Mutex // held while the CA is replaced: one next CA at a time
	settleMu sync.Mutex // held while evictions that no hub has taken are brought to one

	mu      sync.Mutex
	ca      *identity.CA     // nil unless this endpoint has a CA key, see Signer; guarded by mu
	cert    tls.Certificate  // guarded by mu
	subject identity.Subject // of cert; guarded by mu
}

// Book keeps a membership on disk.
type Book interface {
	// Membership returns the row. The caller must not change what it points to.
	Membership() Row

	// Save changes the row. It is on disk when Save returns.
	Save(change func(*Row)) error

	// Redeem remembers that a key redeemed a token. Of many keys at once no more succeed than the
	// token has uses.
	Redeem(inv identity.Invitation, key identity.ID, now time.Time) error

	// NoteIssued remembers a token that was made here, Issued lists those that have not expired,
	// Use says by how many keys one was redeemed here, and Revoke ends one.
	NoteIssued(inv identity.Invitation, now time.Time) error
	Use(nonce string) (used int, revoked bool, err error)
	Issued(now time.Time) ([]Issued, error)
	Revoke(nonce string, expires time.Time) error

	// Ask notes that a device waits for a person, and returns the answer if there is one. Asking
	// lists such devices, and Answer answers one.
	Ask(inv identity.Invitation, id identity.ID, name string, now time.Time) (Nod, error)
	Asking(now time.Time) ([]Asking, error)
	Answer(id identity.ID, nod Nod) error

	// NoteAdmitted remembers that an endpoint was admitted here now, with a time in its certificate
	// that is later after an eviction.
	NoteAdmitted(id identity.ID, user string, admitted, now time.Time) error

	// NoteInvited remembers when a user was admitted here last, and LastInvited says it.
	NoteInvited(user string, admitted time.Time) error
	LastInvited(user string) (admitted time.Time, found bool, err error)
}

// Directory is who is in the mesh.
type Directory interface {
	Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error)

	// Entries calls use for each entry of the hub's directory, until it wants no more. fresh says
	// whether an endpoint was not among those before.
	Entries(ctx context.Context, q url.Values, use func(e tunnel.Entry, fresh func(identity.ID) bool) (more bool)) error

	// Signers lists other endpoints that hold the CA key and are online.
	Signers(ctx context.Context) ([]apps.Endpoint, error)

	// Find returns an endpoint as the directory has it, or had it while the hub is away. It need
	// not be let in.
	Find(ctx context.Context, id identity.ID) (apps.Endpoint, error)

	// Admitted lists when endpoints of a user were admitted, as far as the directory said lately.
	Admitted(user string) []time.Time
}

// Row is a membership as it is on disk.
type Row struct {
	CA          string   `json:"ca"`                  // PEM, of the permit or of the last rotation here: trust begins here
	CAKey       string   `json:"caKey,omitempty"`     // PEM, of CA; endpoints of root
	Next        *NextCA  `json:"next,omitempty"`      // made here to follow the mesh's CA, until the mesh has it
	Certificate []byte   `json:"certificate"`         // DER
	Trust       []byte   `json:"trust,omitempty"`     // the newest trust list seen
	Policy      []byte   `json:"policy,omitempty"`    // the head of the policy that the permit had: what is known until there is another
	Unsettled   []string `json:"unsettled,omitempty"` // users and devices evicted here whose eviction no hub has taken yet
	Name        string   `json:"name"`                // of this endpoint
	Labels      []string `json:"labels,omitempty"`
	Hubs        []string `json:"hubs"`                 // host:port, of the permit or as a person set them
	HubRecords  [][]byte `json:"hubRecords,omitempty"` // what hubs said of themselves, signed
	Ephemeral   bool     `json:"ephemeral,omitempty"`  // hubs forget this endpoint when it has disconnected
	Direct      string   `json:"direct,omitempty"`     // with whom this device meets without a hub: see package direct
}

// NextCA is a CA with its key.
type NextCA struct {
	CA  string `json:"ca"`  // PEM
	Key string `json:"key"` // PEM
}

// New makes the Authority of a membership, from what is on disk.
func New(c Config) (*Authority, error) {
	a := &Authority{
		Config: c, trusted: make(chan struct{}, 1), extended: make(chan struct{}, 1), lists: limit.NewShare[string](limits.Lists),
		renewals: limit.NewBuckets[identity.ID](limit.Rate{Burst: limits.RenewalBurst, PerSecond: limits.RenewalRate}, limits.Renewing),
	}
	row := c.Book.Membership()
	if row.CAKey != "" {
		ca, err := identity.ParseCA([]byte(row.CA), []byte(row.CAKey))
		if err != nil {
			return nil, err
		}
		a.setCA(ca)
	}
	return a, a.setCertificate(row.Certificate)
}

// Connect gives the Authority what it asks. It is called once, before anything else.
func (a *Authority) Connect(d Directory, c *control.Control, p *peers.Peers) {
	a.Directory, a.Control, a.Peers = d, c, p
}

// setCertificate puts a certificate of this device's key in use.
func (a *Authority) setCertificate(der []byte) error {
	cert, subject, err := CertificateOf(a.Verifier, a.Key, der)
	if err != nil {
		return err
	}
	a.Verifier.SetOwn(subject)
	a.mu.Lock()
	a.cert, a.subject = cert, subject
	a.mu.Unlock()
	return nil
}

func (a *Authority) Certificate() tls.Certificate {
	a.mu.Lock()
	cert := a.cert
	a.mu.Unlock()
	return cert
}

// User is whom this endpoint belongs to.
func (a *Authority) User() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.subject.User
}

// Event handles what a hub asks. It does not block. Each kind of event has places of its own, so
// that none keeps another from being handled; the sender of an event that was dropped asks again.
func (a *Authority) Event(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	switch e.Type {
	case tunnel.EventFork:
		a.Work.GoUpTo(&a.forks, limits.Forks, func() { a.uniteFork(s, e.Sum) })
	case tunnel.EventSign:
		if !a.Work.GoUpTo(&a.signs, limits.Signs, func() { a.answerSign(s, hub, e) }) {
			a.PeerLog.Warn("sign", "too many requests for a certificate at once: one was dropped")
		}
	}
}

// CertificateOf makes a certificate of a device's key ready for use. It need not be valid now: a
// clock may be wrong, and the hub is the one to say so.
func CertificateOf(v *identity.Verifier, key ed25519.PrivateKey, der []byte) (tls.Certificate, identity.Subject, error) {
	subject, err := v.Inspect(der, identity.RoleMember)
	if self := identity.IDOf(key.Public().(ed25519.PublicKey)); err == nil && subject.ID != self {
		err = fmt.Errorf("the certificate is for endpoint %s, this device is %s", subject.ID, self)
	}
	return identity.TLSCertificate(der, key), subject, err
}
