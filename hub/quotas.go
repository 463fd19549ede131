package hub

import (
	"net/netip"
	"time"

	"ztm/hub/admission"
	"ztm/hub/limits"
	"ztm/hub/relay"
	"ztm/tunnel/handshake"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// quotas are what peers have taken of the hub, where that belongs to no other part of it. The
// limits are those of limits.go.
type quotas struct {
	handshakes  *admission.Handshakes
	turns       *handshake.Turns[netip.Addr] // of handshakes that compute, by source
	connections *limit.Buckets[netip.Addr]   // by source
	joins       *limit.Buckets[netip.Addr]   // requests to join, by source
	undecided   undecided                    // legs without a header block yet
	standby     limit.Counts[struct{}]       // those of them that are standby connections
	joining     limit.Counts[struct{}]       // devices that wait for a holder of the CA key
	joiningFrom limit.Counts[netip.Addr]     // the same by source
	pace        *relay.Pace                  // of paths that are opened
	requests    *admission.Budgets           // of endpoints
	changes     *limit.Buckets[identity.ID]  // requests that may write to disk
	lists       *limit.Share[string]         // trust lists that are being read, by user
	rootLists   *limit.Share[string]         // the same of user root
	bodies      *limit.Share[string]         // other bodies that are being read, by user
	refusals    *limit.Log                   // log lines that peers can cause
}

func newQuotas(c Config, m *metrics) *quotas {
	most := limits.MaxBuckets()
	return &quotas{
		handshakes:  admission.NewHandshakes(c.Limits.Handshakes, c.Limits.HandshakesPerSource, limits.MaxMemberSources(), &m.refused.handshakes),
		connections: limit.NewBuckets[netip.Addr](c.connectionRate, most),
		turns:       handshake.NewTurns[netip.Addr](),
		pace:        relay.NewPace(limits.PathRate, limits.RootPathRate, most),
		joins:       limit.NewBuckets[netip.Addr](c.joinRate, most),
		requests:    admission.NewBudgets(admission.Rates{Request: c.requestRate, Page: c.pageRate, OfUser: limits.PagesOfUser, GoalShare: limits.GoalShare}, most),
		changes:     limit.NewBuckets[identity.ID](c.changeRate, most),
		lists:       limit.NewShare[string](limits.ListsAtOnce),
		rootLists:   limit.NewShare[string](limits.ListsAtOnce),
		bodies:      limit.NewShare[string](limits.BodiesAtOnce),
		refusals:    limit.NewLog(c.Log),
	}
}

// sweep removes idle entries. members are the sources of connections that stand: a session may last
// for longer than its source is remembered.
func (q *quotas) sweep(now time.Time, members map[netip.Addr]struct{}) {
	q.connections.Sweep(now)
	q.joins.Sweep(now)
	q.pace.Sweep(now)
	q.requests.Sweep(now)
	q.changes.Sweep(now)
	for from := range members {
		q.handshakes.Member(from, now)
	}
	q.handshakes.Sweep(now)
}
