package agent

import (
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/memory"
)

// Limits on what a peer, or the hub, can take of this device. Each says what it counts, why it is as high as it is, and, in brackets, the test
// that reaches it while an honest peer goes on. Make it with limitsWithin.
//
// What is divided by user is a limit.Share: where it is used up, the user who has most of it makes room, so that nobody keeps the others out.
type limits struct {
	// Sealed sessions that peers have open, divided by user: 1024, or an eighth of the memory.
	// (TestSessionsOfOneUserLeaveRoomForOthers)
	Sessions int

	// Sealed sessions of one peer: 32. Ours opens 24 at most. (TestSessionsOfOneUserLeaveRoomForOthers)
	SessionsPeer int

	// Dial-backs at work, from the event of the hub to the end of the handshake, divided by user: 128, or a sixteenth of the memory.
	// (TestHandshakesThatStallLeaveRoomForOthers)
	DialBacks int

	// Dial-backs of one peer: 32, and half of all at most. One that starts many and finishes none does not need more.
	// (TestHandshakesThatStallLeaveRoomForOthers)
	DialBacksPeer int
}

const (
	sessionSize   = 64 << 10 // bytes of a sealed session at rest, with its share of windows
	handshakeSize = 64 << 10 // bytes of a handshake: 16 KiB that were read (see package seal), and what TLS makes of them
)

// limitsWithin returns the limits of a device with so much memory.
func limitsWithin(m memory.Limit) limits {
	l := limits{SessionsPeer: 32}
	l.Sessions = m.Fit(1024, 8, sessionSize)
	l.DialBacks = m.Fit(128, 16, handshakeSize)
	l.DialBacksPeer = min(32, l.DialBacks/2)
	return l
}

// Limits that are the same everywhere.
const (
	// Trust lists of peers that are read at a time, each of up to 4 MiB, divided by user; a peer sends one at a time.
	// (TestTrustListsThatStallTakeNoMemory)
	maxLists = 2

	// Bytes of a trust list. (TestTrustListsThatStallTakeNoMemory)
	maxTrustBody = identity.MaxTrust

	// How long a peer may take to send a trust list. (TestTrustListsThatStallTakeNoMemory)
	listTime = 30 * time.Second

	// Bodies of management requests of one peer that are read at a time, each of up to 1 MiB. Only endpoints of this endpoint's user get so
	// far. (TestManagementBodiesThatStallAreLimited)
	maxManagedPeer = 8

	// Bytes of the body of a management request: 1 MiB. (TestManagementBodiesThatStallAreLimited)
	maxBody = 1 << 20

	// Bytes of a request to join, of the local user alone: a permit holds a trust list, and JSON makes it longer.
	maxJoin = identity.MaxPermit + maxBody

	// How long a peer may take to send the body of a management request. (TestManagementBodiesThatStallAreLimited)
	manageTime = 30 * time.Second

	// Flow IDs that are remembered of a peer: more than it opens while a broken session is noticed. (TestFlowIDsOfOnePeerDoNotDisplaceThoseOfAnother)
	maxFlowIDs = 64

	// Peers whose flow IDs are remembered: those that opened flows last. (TestRecentFlowsAreBounded)
	maxFlowPeers = 128

	// Peers whose certificates are remembered, see members. (TestPeersThatAreRememberedAreBounded)
	maxMembers = 4096

	// Sealed sessions with one peer that this agent opens while others of them are burdened by a flow, and while others of them have no free
	// stream. (TestFlowsBeyondTheStreamsOfASessionOpenAnother)
	maxSessions     = 8
	maxFullSessions = 24

	// Requests for a certificate at work. Each asks the directory. (TestEventsOfOneKindLeaveRoomForOthers)
	maxSigns = 16

	// Certificates that one peer gets renewed: three, and one in ten seconds. It needs one in months, and another where an answer is lost.
	// (TestAPeerGetsFewCertificates)
	renewalBurst, renewalRate = 3, 0.1

	// Peers whose renewals are counted.
	maxRenewing = 1024

	// Dedicated connections that this agent opens at a time for flows that move much. (TestEventsOfOneKindLeaveRoomForOthers)
	maxOffloads = 32

	// Dial-backs that the hub has yet to be told will not be answered. It learns of others by the time that passes.
	// (TestHandshakesThatStallLeaveRoomForOthers)
	maxRefusals = 64

	// Bytes of the error that a peer answers with. (TestARefusalIsNotReadForever)
	maxRefusal = 8 << 10

	// Lines of the log that a peer can cause: see limit.Log. (TestLinesThatAPeerCausesAreFew)
)

// bounds are the limits of a mesh with what is taken of them. Make it with newBounds.
type bounds struct {
	limits limits // static

	sessions    *limit.Share[string] // by user
	sessionsOf  limit.Counts[identity.ID]
	dialBacks   *limit.Share[string] // by user, as the hub has it
	dialBacksOf limit.Counts[identity.ID]
	lists       *limit.Share[string] // by user
	listsOf     limit.Counts[identity.ID]
	managing    limit.Counts[identity.ID]
	signs       limit.Counts[struct{}]
	renewals    *limit.Buckets[identity.ID]
	offloads    limit.Counts[struct{}]
}

func newBounds(l limits) bounds {
	return bounds{limits: l, sessions: limit.NewShare[string](l.Sessions), dialBacks: limit.NewShare[string](l.DialBacks),
		lists:    limit.NewShare[string](maxLists),
		renewals: limit.NewBuckets[identity.ID](limit.Rate{Burst: renewalBurst, PerSecond: renewalRate}, maxRenewing)}
}
