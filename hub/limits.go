package hub

import (
	"cmp"
	"fmt"
	"net/netip"

	"ztm/tunnel/answer"
	"ztm/tunnel/memory"
)

// Limits bound what members and strangers can take of a hub. A zero field has its default: what stands here, or less where there
// is less memory than 2.5 GB.
type Limits struct {
	Agents           int // endpoints in the directory; 10000
	EndpointsPerUser int // endpoints of one user; 1000
	Carriers         int // carriers at a time; 20000
	CarriersPerUser  int // carriers that the endpoints of one user have opened; 2000
	Pending          int // carriers that one endpoint has asked for and that do not stand yet; 128
	PendingAt        int // carriers that wait for one endpoint; 256
	Legs             int // connections of one endpoint that have not said yet which carrier they are for; 128
	Control          int // control sessions of one endpoint, the oldest gives way; 4
	Strangers        int // connections that have not said yet who they are; 1024
	StrangersPerIP   int // the same from one address (IPv6: /64); 256
	Joins            int // devices that wait for a holder of the CA key; 256
}

func (l Limits) fields() []*int {
	return []*int{&l.Agents, &l.EndpointsPerUser, &l.Carriers, &l.CarriersPerUser, &l.Pending, &l.PendingAt,
		&l.Legs, &l.Control, &l.Strangers, &l.StrangersPerIP, &l.Joins}
}

func (l Limits) check() error {
	for _, n := range l.fields() {
		if *n < 0 {
			return fmt.Errorf("limit %d is negative", *n)
		}
	}
	return nil
}

func (l Limits) withDefaults() Limits { return l.within(memory.Here()) }

// What each takes of a hub's memory at most, in bytes, with a margin for the garbage collector.
const (
	agentSize    = 64 << 10 // an idle agent: its session, its record
	carrierSize  = 32 << 10 // a carrier: two connections, two goroutines
	strangerSize = 64 << 10 // a TLS handshake
	bucketSize   = 128
)

// within gives the zero fields what suits a machine with so much memory: agents and carriers may each fill a quarter of it, and
// those that nobody knows a sixteenth. What was said wins, and what depends on it follows.
func (l Limits) within(m memory.Limit) Limits {
	l.Agents = cmp.Or(l.Agents, fitting(10_000, m, 4, agentSize))
	l.EndpointsPerUser = cmp.Or(l.EndpointsPerUser, max(fitting(1000, m, 4, agentSize), min(l.Agents, 1000)))
	l.Carriers = cmp.Or(l.Carriers, fitting(20_000, m, 4, carrierSize))
	l.CarriersPerUser = cmp.Or(l.CarriersPerUser, max(fitting(2000, m, 8, carrierSize), min(l.Carriers/2, 2000)))
	l.Pending = cmp.Or(l.Pending, 128)
	l.PendingAt = cmp.Or(l.PendingAt, 256)
	l.Legs = cmp.Or(l.Legs, fitting(128, m, 16, strangerSize))
	l.Control = cmp.Or(l.Control, 4)
	l.Strangers = cmp.Or(l.Strangers, fitting(1024, m, 16, strangerSize))
	l.StrangersPerIP = cmp.Or(l.StrangersPerIP, fitting(256, m, 32, strangerSize))
	l.Joins = cmp.Or(l.Joins, fitting(256, m, 16, strangerSize))
	return l
}

// fitting returns most, or as many as fit into a part of the memory if these are fewer, but some in any case.
func fitting(most int, m memory.Limit, part, size int64) int {
	if m.Bytes == 0 {
		return most
	}
	return int(min(int64(most), max(m.Bytes/part/size, 16)))
}

// limited is the answer to whoever has reached a limit.
func limited(format string, args ...any) *answer.Error {
	return answer.Errorf(answer.Limit, format, args...)
}

// maxBuckets bounds the memory that strangers' addresses take.
func maxBuckets() int { return fitting(1<<16, memory.Here(), 64, bucketSize) }

// source is what counts as one address: an IPv4 address, or the /64 of an IPv6 one, which one customer holds alone.
func source(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a
}
