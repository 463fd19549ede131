package peers

import (
	"sync"
	"time"

	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// How what a peer has here ends with its membership:
//
//	evicted, CA retired   a new trust list (the membership) ───────────┐
//	expired               the time that UntilExpiry tells ─────────────┼─> CutStale -> sessions, flows, App.Left
//	joined again as       a session with another certificate (arrived) ┘
//	somebody else
//
// That an endpoint is missing in the directory says nothing: a hub may withhold it, or may have
// lost its database. An endpoint that leaves the mesh keeps a valid certificate until it expires or
// its user is evicted.

// members remembers by which certificate each peer came here last. A peer renews its certificate
// while an app keeps something for it, so what was known when the app began to is no measure. Of a
// peer that was forgotten the apps hear when it is evicted, not when it expires. The zero value is
// empty.
type members struct {
	mu    sync.Mutex
	peers map[identity.ID]identity.Subject // at most limits.Members; guarded by mu
}

// arrived notes a peer's certificate, and reports whether the endpoint was another member until
// now: of another user, or admitted at another time.
func (ms *members) arrived(s identity.Subject) (replaced bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	old, known := ms.peers[s.ID]
	if known && (s.Admitted.Before(old.Admitted) || s.Admitted.Equal(old.Admitted) && s.NotAfter.Before(old.NotAfter)) {
		return false // an older certificate than the one that we know
	}
	if ms.peers == nil {
		ms.peers = map[identity.ID]identity.Subject{}
	}
	if !known && len(ms.peers) >= limits.Members {
		for id := range ms.peers { // any
			delete(ms.peers, id)
			break
		}
	}
	ms.peers[s.ID] = s
	return known && PeerOf(old) != PeerOf(s)
}

// gone returns a function that reports whether a peer is no member any longer.
func (ms *members) gone(t *identity.Trust, now time.Time) func(apps.Peer) bool {
	return func(p apps.Peer) bool {
		ms.mu.Lock()
		last, known := ms.peers[p.ID]
		ms.mu.Unlock()
		if !known {
			return t.Evicted(identity.Subject{Role: identity.RoleMember, User: p.User, ID: p.ID, Admitted: p.Admitted.Time()})
		}
		return PeerOf(last) != p || t.Reverify(last, now) != nil
	}
}

// admitted lists when the endpoints of a user were admitted that came here.
func (ms *members) admitted(user string) (out []time.Time) {
	ms.mu.Lock()
	for _, s := range ms.peers {
		if s.User == user {
			out = append(out, s.Admitted)
		}
	}
	ms.mu.Unlock()
	return out
}

// AdmittedOf returns when an endpoint that opened a session here was admitted; the zero time if none
// did.
func (p *Peers) AdmittedOf(id identity.ID) time.Time {
	p.members.mu.Lock()
	defer p.members.mu.Unlock()
	return p.members.peers[id].Admitted
}

// Admitted lists when the endpoints of a user were admitted that opened sessions here, as their
// certificates say.
func (p *Peers) Admitted(user string) []time.Time { return p.members.admitted(user) }

// untilExpiry returns how long it is until the next certificate of a peer expires; a day if none
// does sooner.
func (ms *members) untilExpiry(now time.Time) time.Duration {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	next := 24 * time.Hour
	for _, s := range ms.peers {
		if left := s.NotAfter.Sub(now); left > 0 {
			next = min(next, left+time.Second) // the last second is still good
		}
	}
	return next
}

// arrived notes a peer that opened a session.
func (p *Peers) arrived(peer identity.Subject) {
	if p.members.arrived(peer) {
		p.PeerLog.Info("member "+string(peer.ID), "an endpoint is another member now", "peer", peer.ID, "user", peer.User)
		for _, in := range p.inbounds() {
			if in.peer.ID == peer.ID && PeerOf(in.peer) != PeerOf(peer) {
				in.conn.Close()
			}
		}
		p.endGone()
	}
}

// CutStale ends all that a peer has here that is not a member any longer: evicted, expired, or
// admitted by a CA that has retired.
func (p *Peers) CutStale() {
	stale := func(s identity.Subject) bool { return p.reverify(s) != nil }
	p.pool.closeIf(stale)
	for _, f := range p.opened() {
		if stale(f.peer) { // offloaded it does not end with the session
			f.Reset()
		}
	}
	for _, in := range p.inbounds() {
		if err := p.reverify(in.peer); err != nil {
			p.Log.Info("session cut", "user", in.peer.User, "peer", in.peer.ID, "err", err)
			in.conn.Close()
		}
	}
	p.endGone()
}

// UntilExpiry returns how long it is until the next certificate of a peer expires; a day if none
// does sooner.
func (p *Peers) UntilExpiry(now time.Time) time.Duration { return p.members.untilExpiry(now) }

// endGone ends the flows of peers that are no members any longer, and has the apps end all else that
// they hold for them.
func (p *Peers) endGone() {
	gone := p.members.gone(p.Verifier.Trust(), p.Verifier.Clock().Now())
	p.cutFlows(func(f *inFlow) bool { return gone(f.peer) })
	for _, app := range p.apps {
		app.Left(gone)
	}
}

// departed has the app of a flow that is over end what it began for a peer that was cut off
// meanwhile.
func (p *Peers) departed(peer apps.Peer, app apps.App) {
	if p.members.gone(p.Verifier.Trust(), p.Verifier.Clock().Now())(peer) {
		app.Left(func(other apps.Peer) bool { return other == peer })
	}
}
