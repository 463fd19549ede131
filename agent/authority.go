package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"log/slog"
	"net/url"
	"sync"

	"ztm/agent/control"
	"ztm/agent/limits"
	"ztm/agent/peers"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
)

// authority is what makes this endpoint a member, and others: its certificate (renew.go), the trust list (trust.go, lists.go) and, at an
// endpoint of root, the CA key (sign.go, evict.go, rotate.go). Make it with newAuthority.
type authority struct {
	// static
	self     identity.ID
	key      ed25519.PrivateKey
	name     string // of the mesh
	log      *slog.Logger
	peerLog  *limit.Log
	verifier *identity.Verifier
	book     *book
	mesh     directory
	known    *known // what the directory said last
	control  *control.Control
	peers    *peers.Peers
	work     *inflight.Tracker
	life     context.Context

	newer   chan uint64   // the version of the hub's trust list that is to be looked at, capacity 1
	trusted chan struct{} // there is a new trust list, capacity 1

	lists    *limit.Share[string] // trust lists that are read, by user
	listsOf  limit.Counts[identity.ID]
	signs    limit.Counts[struct{}] // requests for a certificate at work
	renewals *limit.Buckets[identity.ID]

	trustMu  sync.Mutex // held while a trust list is taken: the newest must be the one on disk
	rotateMu sync.Mutex // held while the CA is replaced: one next CA at a time
	settleMu sync.Mutex // held while evictions that no hub has taken are brought to one

	mu      sync.Mutex
	ca      *identity.CA     // nil unless this endpoint has a CA key, see signer; guarded by mu
	cert    tls.Certificate  // guarded by mu
	subject identity.Subject // of cert; guarded by mu
}

// directory is who is in the mesh.
type directory interface {
	Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error)
	entries(ctx context.Context, q url.Values, use func(e tunnel.Entry, fresh func(identity.ID) bool) (more bool)) error
	signers(ctx context.Context) ([]apps.Endpoint, error)
}

// newAuthority makes the authority of a mesh, of what is on disk. The caller sets control and peers.
func (m *mesh) newAuthority() error {
	a := &m.authority
	a.self, a.key, a.name, a.log, a.peerLog = m.agent.self, m.agent.key, m.name, m.log, m.peerLog
	a.verifier, a.book, a.mesh, a.known, a.work, a.life = m.verifier, &m.book, m, &m.known, &m.work, m.life
	a.newer, a.trusted = make(chan uint64, 1), make(chan struct{}, 1)
	a.lists = limit.NewShare[string](limits.Lists)
	a.renewals = limit.NewBuckets[identity.ID](limit.Rate{Burst: limits.RenewalBurst, PerSecond: limits.RenewalRate}, limits.Renewing)
	row := m.membership()
	if row.CAKey != "" {
		ca, err := identity.ParseCA([]byte(row.CA), []byte(row.CAKey))
		if err != nil {
			return err
		}
		a.setCA(ca)
	}
	return a.setCertificate(row.Certificate)
}

// setCertificate puts a certificate of this device's key in use.
func (a *authority) setCertificate(der []byte) error {
	cert, subject, err := certificateOf(a.verifier, a.key, der)
	if err != nil {
		return err
	}
	a.verifier.SetOwn(subject)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cert, a.subject = cert, subject
	return nil
}

func (a *authority) certificate() tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cert
}

// user is whom this endpoint belongs to.
func (a *authority) user() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.subject.User
}

// event handles what a hub asks. It does not block. Each kind of event has places of its own, so that none keeps another from being handled; the
// sender of an event that was dropped asks again.
func (a *authority) event(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	switch e.Type {
	case tunnel.EventTrust:
		select {
		case <-a.newer: // an older one that nobody has looked at
		default:
		}
		a.newer <- e.Version // nobody else sends
	case tunnel.EventSign:
		if !a.work.GoUpTo(&a.signs, limits.Signs, func() { a.answerSign(s, hub, e) }) {
			a.peerLog.Warn("sign", "too many requests for a certificate at once: one was dropped")
		}
	}
}
