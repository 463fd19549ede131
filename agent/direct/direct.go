// Package direct has this device and a peer meet without the hub in between. It decides when, with
// whom, and whether what came of it may be used.
//
//	A, which opens flows                                     B
//	Begin: is it time?
//	a fresh relayed session, whose two legs have the ports
//	POST /v1/direct     round, seen              ->  Serve: may A? The round is kept for half a minute
//	                                            <-   seen, port, own addresses
//	three PINGs
//	POST /v1/direct/go  round, port, addresses   ->  dials at once
//	dials when that is there                         (package tunnel/direct)
//	the round, then TLS as on any path          <->  the round compared, then TLS
//	probation: echoes, the last one large        ->  POST /v1/direct/echo
//
// Flows of datagrams have a UDP path of their session beside, see datagrams.go.
//
// A round is good once. What a peer may have this device dial is one pure function, see
// [direct.Order]. An outsider who connects at the right moment from the right address reads nothing
// and is shown no certificate, for it does not know the round. That the peer is the peer, its
// certificate says alone.
package direct

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/seal"
)

// Config is what Direct needs of the membership that it belongs to. All of it is set.
type Config struct {
	User        func() string // of this device
	Mode        func() Mode
	Network     *direct.Network
	Verifier    *identity.Verifier
	Certificate func() tls.Certificate
	Log         *slog.Logger
	PeerLog     *limit.Log // of what peers can cause
	Work        *inflight.Tracker
	Life        context.Context

	// Known reports whether a flow of a peer was accepted here.
	Known func(peer identity.ID) bool

	// Met serves what a peer has sealed. It returns at once.
	Met func(a *seal.Accepted, at direct.Candidate)
}

// Limits of what peers and flows may cause.
const (
	roundsAtOnce   = 4  // that this device begins
	answersAtOnce  = 8  // that it takes part in, each of which may have 8 sockets
	offloadsAtOnce = 32 // the same for one flow, with one socket each
	pathsAtOnce    = 32 // for datagrams, that peers began, with one socket each
	pathsPeer      = 4  // of one of them
	roundsPeer     = 6  // that a peer may begin in a minute
	offloadsPeer   = 60
	waitingRounds  = 64 // rounds between their two requests, of all peers
	waitingOfPeer  = 8
	remembered     = 1024 // peers
	roundLife      = 30 * time.Second
	echoBytes      = 64 << 10
	probationTime  = 5 * time.Second
	roundTimeout   = 15 * time.Second // of all of a round
	answerTimeout  = direct.RoundTime + 15*time.Second
	roundLength    = 16 // bytes
)

// Direct is made with [New]. It is safe for concurrent use.
type Direct struct {
	Config
	*Attempts           // for sessions
	Datagrams *Attempts // for paths of datagrams

	asked    *limit.Buckets[identity.ID] // rounds that a peer began
	offloads *limit.Buckets[identity.ID] // those for one flow on a way that is proven
	besides  *limit.Buckets[identity.ID] // those for datagrams
	answers  [2]limit.Counts[struct{}]   // for sessions, and for single flows
	paths    limit.Counts[identity.ID]   // for datagrams, that a peer began: rounds that wait or run, and what came of them
	allPaths limit.Counts[struct{}]

	mu      sync.Mutex
	waiting map[string]*waiting // by round; guarded by mu

	lookMu sync.Mutex
	looked time.Time         // guarded by lookMu
	here   direct.Interfaces // as of then; guarded by lookMu
}

// New makes the Direct of a membership.
func New(c Config) *Direct {
	return &Direct{
		Config:    c,
		Attempts:  newAttempts(&c, "ztm_mesh_direct_rounds_total", "Attempts to open a direct path, by result."),
		Datagrams: newAttempts(&c, "ztm_mesh_datagram_rounds_total", "Attempts to open a direct path for datagrams, by result."),
		asked:     limit.NewBuckets[identity.ID](limit.Rate{Burst: roundsPeer, PerSecond: roundsPeer / 60.0}, remembered),
		offloads:  limit.NewBuckets[identity.ID](limit.Rate{Burst: offloadsPeer, PerSecond: offloadsPeer / 60.0}, remembered),
		besides:   limit.NewBuckets[identity.ID](limit.Rate{Burst: roundsPeer, PerSecond: roundsPeer / 60.0}, remembered),
		waiting:   map[string]*waiting{},
	}
}

// seen is where the hub sees a leg, as far as a peer is told: on its own networks alone this device
// does not say.
func (d *Direct) seen(leg *tunnel.Leg) netip.AddrPort {
	if d.Mode() == LAN {
		return netip.AddrPort{}
	}
	return leg.Seen
}

// own is what a peer is told. Addresses that mean something within one network alone are for
// devices of the same user, and for those that the hub sees at the same address.
func (d *Direct) own(addresses []netip.Prefix, leg *tunnel.Leg, user string) direct.Places {
	return direct.Own(addresses, d.seen(leg), leg.Port(), leg.Near || user == d.User(), d.Mode() != LAN)
}

// candidates are where a peer is dialled, within the mode; where only is valid, at that address. near
// is what the hub says of the two.
func (d *Direct) candidates(here direct.Interfaces, near bool, theirs direct.Places, only netip.Addr) []direct.Candidate {
	mode, all, n := d.Mode(), direct.Order(here, near, theirs), 0
	for i := range all {
		if mode.Allows(all[i].Kind) && (!only.IsValid() || all[i].To.Addr() == only) {
			all[n] = all[i]
			n++
		}
	}
	return all[:n]
}
