// Package limits is one table of what others can take of a device: peers, and the hub.
//
// Each limit says what it counts, why it is as high as it is, and, in brackets, the test that
// reaches it while an honest peer goes on. What is divided by user is a limit.Share: where it is
// used up, the user who has most of it makes room, so that nobody keeps the others out.
package limits

import (
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/memory"
)

// Table has the limits that depend on the memory of the device. Make it with [Within].
type Table struct {
	// Sealed sessions that peers have open, divided by user: 1024, or an eighth of the memory.
	// (TestSessionsOfOneUserLeaveRoomForOthers)
	Sessions int

	// Sealed sessions of one peer: 32. Ours opens 24 at most.
	// (TestSessionsOfOneUserLeaveRoomForOthers)
	SessionsPeer int

	// Dial-backs at work, from the event of the hub to the end of the handshake, divided by user:
	// 128, or a sixteenth of the memory. (TestHandshakesThatStallLeaveRoomForOthers)
	DialBacks int

	// Dial-backs of one peer: 32, and half of all at most. One that starts many and finishes none
	// does not need more. (TestHandshakesThatStallLeaveRoomForOthers)
	DialBacksPeer int

	// Flow IDs that are remembered of a peer: 1024, or a sixty-fourth of the memory for all peers.
	// As many flows as a peer opens in the seconds until a broken session, or a hub that hangs, is
	// noticed: it opens those again that had no answer.
	// (TestFlowIDsOfOnePeerDoNotDisplaceThoseOfAnother)
	FlowIDs int

	// Lines of the audit log that are in memory: 10,000, or a 256th of the memory. A user who fills it
	// loses lines of their own. (TestWhoFloodsTheLogPushesOutTheirOwnLines)
	AuditLines int
}

const (
	sessionSize   = 64 << 10 // bytes of a session at rest, with its share of windows
	lineSize      = 512      // bytes of a line of the audit log
	flowIDSize    = 96       // bytes of a flow ID that is remembered, with its place
	handshakeSize = 64 << 10 // bytes of a handshake: 16 KiB that were read (see package seal), and what TLS makes of them
)

// Within returns the limits of a device with so much memory.
func Within(m memory.Limit) Table {
	l := Table{SessionsPeer: 32}
	l.Sessions = m.Fit(1024, 8, sessionSize)
	l.DialBacks = m.Fit(128, 16, handshakeSize)
	l.DialBacksPeer = min(32, l.DialBacks/2)
	l.AuditLines = m.Fit(10_000, 256, lineSize)
	l.FlowIDs = m.Fit(1024, 64, flowIDSize*FlowPeers)
	return l
}

// Limits that are the same everywhere.
const (
	// Trust lists of peers that are read at a time, each of up to 4 MiB, divided by user; a peer
	// sends one at a time. (TestTrustListsThatStallTakeNoMemory)
	Lists = 2

	// Bytes of a trust list. (TestTrustListsThatStallTakeNoMemory)
	TrustBytes = identity.MaxTrust

	// How long a peer may take to send a trust list. (TestTrustListsThatStallTakeNoMemory)
	ListTime = 30 * time.Second

	// Bodies of management requests of one peer that are read at a time, each of up to 1 MiB. Only
	// endpoints of this endpoint's user get so far. (TestManagementBodiesThatStallAreLimited)
	ManagedPeer = 8

	// Bytes of the body of a management request: 1 MiB. (TestManagementBodiesThatStallAreLimited)
	Body = 1 << 20

	// Bytes of a request to join, of the local user alone: a permit holds a trust list, and JSON
	// makes it longer. (TestARequestToJoinIsReadUpToItsLimit)
	JoinBody = identity.MaxPermit + Body

	// How long a peer may take to send the body of a management request.
	// (TestManagementBodiesThatStallAreLimited)
	ManageTime = 30 * time.Second

	// Peers whose flow IDs are remembered: those that opened flows last.
	// (TestRecentFlowsAreBounded)
	FlowPeers = 128

	// Peers whose certificates are remembered, see members. (TestPeersThatAreRememberedAreBounded)
	Members = 4096

	// Peers whose traffic is counted when their flows have ended. (TestTrafficIsCountedOfSoManyPeers)
	Totals = 4096

	// Sealed sessions with one peer that this agent opens while others of them are loaded by a
	// flow. (TestFlowsBeyondTheStreamsOfASessionOpenAnother)
	LoadedSessions = 8

	// The same, while others of them have no free stream. (TestSessionsWithOnePeerAreBounded)
	FullSessions = 24

	// Requests for a certificate at work: as many as a hub lets devices join at a time, each of
	// which waits for the answer. Each asks the directory. (TestNoMoreOfAKindRunThanMay)
	Signs = 256

	// Join tokens of this endpoint that are open. (TestOpenTokensAreBounded)
	Tokens = 4096

	// Devices that wait for a person: in all, and of one token.
	// (TestDevicesThatWaitForAPersonAreBounded)
	Approvals, ApprovalsOfToken = 256, 16

	// Trust lists that differ and are being united, at the hub's word. Those that are dropped are
	// brought again. (TestNoMoreOfAKindRunThanMay)
	Forks = 4

	// Lists of hubs that are being fetched: one of each hub that there is a session with, and one
	// that is about to end. (TestNoMoreOfAKindRunThanMay)
	HubLists = 3

	// Certificates that one peer gets renewed: three, and one in ten seconds. It needs one in
	// months, and another where an answer is lost. (TestAPeerGetsFewCertificates)
	RenewalBurst, RenewalRate = 3, 0.1

	// Peers whose renewals are counted. (TestATableOfBucketsHasABoundAndForgetsNoMoreThanItMust)
	Renewing = 1024

	// Dedicated connections that this agent opens at a time for flows that move much.
	// (TestNoMoreOfAKindRunThanMay)
	Offloads = 32

	// Dial-backs that the hub has yet to be told will not be answered. It learns of others by the
	// time that passes. (TestHandshakesThatStallLeaveRoomForOthers)
	Refusals = 64

	// Bytes of the error that a peer answers with. (TestARefusalIsNotReadForever)
	RefusalBytes = 8 << 10

	// Entries of the directory that are read: a hub that always has more is not followed without
	// end. (TestADirectoryWithoutEndIsNotFollowed)
	Directory = 100_000

	// Endpoints that are remembered for when the hub is away. A record has 16 KiB at most, and some
	// 300 bytes as a rule. (TestTheLastKnownDirectoryIsKeptInBounds)
	Known = 1024

	// Names that are pinned in a mesh; beyond it the one that is longest known goes.
	// (TestKnownNamesHaveALimitAndGoWithTheMesh)
	KnownNames = 4096

	// Lines of the log that a peer can cause: see limit.Log. (TestLinesThatAPeerCausesAreFew)
)
