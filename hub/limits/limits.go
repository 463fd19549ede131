// Package limits is one table: all that others can take of a hub, what can be configured (Limits)
// and what is fixed. Each says its default, its reason, and the test that takes as much as it can
// get while an honest pair works on.
package limits

import (
	"cmp"
	"fmt"
	"time"

	"ztm/hub/directory"
	"ztm/tunnel"
	"ztm/tunnel/limit"
	"ztm/tunnel/memory"
)

// Limits bound what members and unknown connections can take of a hub. A zero field has its
// default: what stands here, or less where there is less memory than 2.5 GB, see within.
type Limits struct {
	// Agents is endpoints in the directory: 10,000. Each may be online, at agentSize. Test:
	// TestLimitsOfTheDirectory.
	Agents int
	// EndpointsPerUser is endpoints of one user: 1,000. The others have room then. Test:
	// TestLimitsOfTheDirectory.
	EndpointsPerUser int
	// Paths is paths at a time: 20,000, at pathSize. Test: TestLimitsOfPaths.
	Paths int
	// PathsPerUser is paths that the endpoints of one user have opened: 2,000. So it takes ten
	// users to fill a hub, not two endpoints. Test: TestLimitsOfPaths.
	PathsPerUser int
	// Hops is paths to one other hub, and from it: half of Paths. Test: TestHopsOfAHubAreLimited.
	Hops int
	// Pending is paths that one endpoint has asked for and that are being set up: 128, more than a
	// browser opens. Test: TestLimitsOfPaths.
	Pending int
	// PendingAt is paths that wait for one endpoint: 256. One user gets half of them, and a quarter
	// is for users with few, see pending. Test: TestWaitingForAnEndpointKeepsNoOtherUserOut.
	PendingAt int
	// Legs is connections of one endpoint without a header block yet: 128, at HandshakeSize. All
	// endpoints of a user have PathsPerUser. Test: TestLegsThatSayNothingAreLimited.
	Legs int
	// Control is control sessions of one endpoint: 4. An endpoint has one, and those that broke;
	// the oldest gives way. Test: TestOldControlSessionsGiveWay.
	Control int
	// Handshakes is connections whose peer is not known yet: 1,024, at HandshakeSize. When all are
	// taken, the silent ones of the largest source give way, see admission.Handshakes. Test:
	// TestSilentConnectionsKeepNoMemberOut.
	Handshakes int
	// HandshakesPerSource is the same from one IPv4 address or IPv6 /64: 256, for offices behind
	// one address. Test: TestConnectionsThatSayNothingDoNotKeepOthersOut.
	HandshakesPerSource int
	// Joins is devices that wait for a holder of the CA key: 256. Test:
	// TestDevicesThatAskNothingTakeNoPlaceOfThoseThatJoin.
	Joins int
	// JoinsPerSource is the same from one source: 64. Test: TestJoinsOfOneSourceLeaveRoomForOthers.
	JoinsPerSource int
}

func (l Limits) fields() []*int {
	return []*int{&l.Agents, &l.EndpointsPerUser, &l.Paths, &l.PathsPerUser, &l.Hops, &l.Pending, &l.PendingAt,
		&l.Legs, &l.Control, &l.Handshakes, &l.HandshakesPerSource, &l.Joins, &l.JoinsPerSource}
}

// Check refuses limits that make no sense.
func (l Limits) Check() error {
	for _, n := range l.fields() {
		if *n < 0 {
			return fmt.Errorf("limit %d is negative", *n)
		}
	}
	return nil
}

// WithDefaults fills in what was not configured, by the memory of this machine.
func (l Limits) WithDefaults() Limits { return l.within(memory.Here()) }

// Memory of each at most, in bytes, with a margin for the garbage collector.
const (
	agentSize     = 64 << 10 // an idle agent: its session, its record
	pathSize      = 32 << 10 // a path: two connections, two goroutines
	HandshakeSize = 64 << 10 // a TLS handshake of at most handshake.MaxBytes
	bucketSize    = 128      // a token bucket
)

// Limits that are the same for every hub. Sizes are in bytes. A handshake is bounded by
// handshake.MaxBytes, with the test TestAHandshakeIsCutOffAtItsLimit, and the limits of log lines
// are those of [limit.Log]: TestRefusedDevicesDoNotFillTheLog.
const (
	// JoinRequestTimeout is how long a device has to send its request to join after the handshake.
	// On a line that loses packets that takes seconds. Until then it has a place among the handshakes,
	// and gives way as they do. Test: TestDevicesThatAskNothingTakeNoPlaceOfThoseThatJoin.
	JoinRequestTimeout = tunnel.HandshakeTimeout

	// BodyTimeout is how long the body of a request may take to arrive. Test:
	// TestBodiesThatDoNotArriveKeepNoOtherUserOut.
	BodyTimeout = 10 * time.Second
	// BodiesAtOnce is bodies of requests that are being read, of 16 KiB: 256. A user with many
	// gives way. Test: TestBodiesThatDoNotArriveKeepNoOtherUserOut.
	BodiesAtOnce = 256
	// ListsAtOnce is trust lists that are being read, of 4 MiB: 8, and as many of root. A user with
	// many gives way. Test: TestBodiesThatDoNotArriveKeepNoOtherUserOut.
	ListsAtOnce = 8
	// MaxAnswer is the size of a CA holder's answer: a certificate or a refusal. Test:
	// TestOnlyTheEndpointThatWasAskedMaySign.
	MaxAnswer = 16 << 10

	// PagesAtOnce is pages of the directory, of up to 1 MiB, that are being sent on one connection:
	// 4. Test: TestListingTheDirectoryInALoopHarmsNobodyElse.
	PagesAtOnce = 4
	// maxPage is the size of a page in records: as base64, with what is around them, they stay
	// below tunnel.MaxBody. Test: TestAPageStaysBelowTheLimitOfAnAnswer.
	maxPage = tunnel.MaxBody / 2
	// WriteTimeout is how long an answer or an event may take to be taken. Test:
	// TestAnAgentThatDoesNotReadHoldsUpNobody.
	WriteTimeout = 15 * time.Second

	// RootPending is how many times Limits.Pending an endpoint of user root has, see RootPathRate: 4.
	// Test: TestRootReachesTenThousandEndpointsAtOnce.
	RootPending = 4
	// MaxPathWait is how long a path waits for its user's PathRate. Then it is refused, not earlier:
	// who is refused at once comes again at once. With the ticket it is less than an opener waits.
	// Test: TestPathsOfOneUserTakeTime.
	MaxPathWait = 2 * time.Second

	// EventQueue is events that wait for one agent: 64. An agent reads them as they come; one for
	// which so many wait has stopped reading. Events that others can cause leave room for those
	// that must not be missed. Test: TestAnAgentThatDoesNotReadHoldsUpNobody.
	EventQueue = 64
	// SignQueue is how many may wait when a joining device causes another: 56. Test:
	// TestDialBacksLeaveRoomInTheQueueOfEvents.
	SignQueue = EventQueue - 8
	// DialBackQueue is the same for a peer that asks for a path: 48. Test:
	// TestDialBacksLeaveRoomInTheQueueOfEvents.
	DialBackQueue = EventQueue - 16

	// NameKept is how long a name that became free is kept for its user. Test:
	// TestANameThatBecameFreeIsKeptForItsUser.
	NameKept = 30 * 24 * time.Hour
	// namesOfUser is how many names are kept for one user: 100. Test:
	// TestNamesThatAreKeptAreLimited.
	namesOfUser = 100

	// PagesOfUser is how many endpoints of one user may list the directory at the full rate: 4.
	// Test: TestListingTheDirectoryInALoopHarmsNobodyElse.
	PagesOfUser = 4
	// GoalShare is the part of a rate that requests about one endpoint, name or offer get.
	// Test: TestFailingRequestsLeaveTheOthersTheirBudget.
	GoalShare = 0.25
)

// Rates, of which each key has a bucket.
var (
	// ConnectionRate is connections of one source. A handshake costs 0.3 ms. Test:
	// TestConnectionsOfOneAddressAreLimited.
	ConnectionRate = limit.Rate{Burst: 4000, PerSecond: 1000}
	// JoinRate is requests to join of one source. Each may ask a root endpoint. Test:
	// TestJoinsAreLimitedForEachAddress.
	JoinRate = limit.Rate{Burst: 128, PerSecond: 2}
	// PathRate is paths that the endpoints of one user open, half of it one endpoint. A path costs two
	// handshakes here and two at its target. What comes faster waits for up to MaxPathWait. Test:
	// TestPathsOfOneUserTakeTime.
	PathRate = limit.Rate{Burst: 400, PerSecond: 50}
	// RootPathRate is PathRate of one endpoint of user root, which tells each endpoint of a new version
	// of the policy. Test: TestRootReachesTenThousandEndpointsAtOnce.
	RootPathRate = limit.Rate{Burst: 10_000, PerSecond: 1000}
	// RequestRate is requests of one kind of one endpoint. Test:
	// TestFailingRequestsLeaveTheOthersTheirBudget.
	RequestRate = limit.Rate{Burst: 1000, PerSecond: 200}
	// PageRate is pages of the directory for one endpoint. A page of 10,000 endpoints costs 0.5 ms,
	// and all of them are 50 pages. Test: TestListingTheDirectoryInALoopHarmsNobodyElse.
	PageRate = limit.Rate{Burst: 200, PerSecond: 20}
	// ChangeRate is requests of one endpoint that may write to disk. Test:
	// TestChangesOfOneEndpointAreLimited.
	ChangeRate = limit.Rate{Burst: 100, PerSecond: 1}
)

// MaxBuckets bounds the memory that rates take, in buckets: 65,536 of a kind. A new one then
// replaces another.
func MaxBuckets() int { return memory.Here().Fit(1<<16, 64, bucketSize) }

// MaxMemberSources bounds the sources that are known to be members': 4,096. Test:
// TestSourcesOfMembersAreForgottenOneByOne.
func MaxMemberSources() int { return memory.Here().Fit(1<<12, 256, bucketSize) }

// With fewer places quick connections could not be told from late ones.
const minHandshakes = 64 // places of the smallest hub

// within gives the zero fields what suits a machine with so much memory: agents and relayed paths
// may each fill a quarter of it, and unknown connections a sixteenth. Configured values win, and
// those that depend on them follow.
func (l Limits) within(m memory.Limit) Limits {
	l.Agents = cmp.Or(l.Agents, m.Fit(10_000, 4, agentSize))
	l.EndpointsPerUser = cmp.Or(l.EndpointsPerUser, max(m.Fit(1000, 4, agentSize), min(l.Agents, 1000)))
	l.Paths = cmp.Or(l.Paths, m.Fit(20_000, 4, pathSize))
	l.PathsPerUser = cmp.Or(l.PathsPerUser, max(m.Fit(2000, 8, pathSize), min(l.Paths/2, 2000)))
	l.Hops = cmp.Or(l.Hops, max(l.Paths/2, 1))
	l.Pending = cmp.Or(l.Pending, 128)
	l.PendingAt = cmp.Or(l.PendingAt, 256)
	l.Legs = cmp.Or(l.Legs, m.Fit(128, 16, HandshakeSize))
	l.Control = cmp.Or(l.Control, 4)
	l.Handshakes = cmp.Or(l.Handshakes, max(m.Fit(1024, 16, HandshakeSize), minHandshakes))
	l.HandshakesPerSource = cmp.Or(l.HandshakesPerSource, m.Fit(256, 32, HandshakeSize))
	l.Joins = cmp.Or(l.Joins, m.Fit(256, 16, HandshakeSize))
	l.JoinsPerSource = cmp.Or(l.JoinsPerSource, max(l.Joins/4, 1))
	return l
}

// Directory returns the limits of the directory.
func (l Limits) Directory() directory.Limits {
	return directory.Limits{
		Endpoints: l.Agents, OfUser: l.EndpointsPerUser, PageBytes: maxPage, NameKept: NameKept, NamesOfUser: namesOfUser,
	}
}
