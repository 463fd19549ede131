package control

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"time"
)

// candidate is a hub as [rank] sees it.
type candidate struct {
	key    string // the hub's ID, or an address of which no hub is known yet
	zone   string
	weight int           // 0 is 1
	rtt    time.Duration // 0: not known, and taken for near

	addressOnly bool // no record of it is known, only an address
	draining    bool
	failed      bool // the last attempt to reach it failed, or it was lost

	place *place // where it is
	near  bool   // set by order
	score float64
}

// rank orders hubs by how much the endpoint self wants to be with them. The first n that can be
// reached get its control sessions. It depends on nothing but its arguments, so that thousands of
// endpoints divide themselves among hubs without a word between them:
//
//  1. A hub that failed comes after all that did not, one that drains after all others that did not
//     fail, and an address without a known hub after hubs that are known.
//  2. Among those, near hubs come first: whose round trip is within 10 ms, or half as much again, of
//     the least. One that was not measured counts as near: who tries it will know.
//  3. Near hubs are in the order of a rendezvous hash of self and the hub, by weight. A hub that
//     comes or goes so moves the endpoints that it gets or had, and no others. Those that are not
//     near follow by their round trip.
//  4. The second is moved up: it is the best by 1 to 3 of the hubs of another zone than the first, if
//     one of those is usable and neither failed nor drains. Hubs of one zone may fail together.
func rank(self string, all []*candidate) []*candidate {
	for _, c := range all {
		c.score = c.hash(self)
	}
	order(all)
	if len(all) < 3 || all[0].class() != 0 {
		return all
	}
	var others []*candidate
	for _, c := range all {
		if c.zone != all[0].zone && c.class() == 0 {
			others = append(others, c)
		}
	}
	if len(others) > 0 {
		order(others)
		moveUp(all, 1, others[0])
	}
	return all
}

// moveUp moves one of a list to a place before it.
func moveUp[T comparable](list []T, to int, one T) {
	at := slices.Index(list, one)
	if at > to {
		copy(list[to+1:at+1], list[to:at])
		list[to] = one
	}
}

// class is what comes before all else: see rank, 1.
func (c *candidate) class() int {
	switch {
	case c.failed:
		return 3
	case c.draining:
		return 2
	case c.addressOnly:
		return 1
	}
	return 0
}

// order is rank without its last rule.
func order(all []*candidate) {
	var least [4]time.Duration
	for _, c := range all {
		if l := &least[c.class()]; c.rtt > 0 && (*l == 0 || c.rtt < *l) {
			*l = c.rtt
		}
	}
	for _, c := range all {
		c.near = c.rtt == 0 || nearly(c.rtt, least[c.class()])
	}
	slices.SortFunc(all, compare)
}

// compare is negative if a comes before b.
func compare(a, b *candidate) int {
	if by := cmp.Compare(a.class(), b.class()); by != 0 {
		return by
	}
	by := last(!a.near, !b.near)
	if by == 0 && a.near {
		by = cmp.Compare(b.score, a.score)
	} else if by == 0 {
		by = cmp.Compare(a.rtt, b.rtt)
	}
	if by == 0 {
		by = cmp.Compare(a.key, b.key)
	}
	return by
}

// nearly reports whether a round trip is about as good as the least.
func nearly(rtt, least time.Duration) bool {
	return rtt <= max(least+10*time.Millisecond, least*3/2)
}

// hash is the rendezvous hash of an endpoint and a hub: of all hubs each has the highest for its
// share, by weight, of all endpoints (Schindelhauer and Schomaker: -w / ln h).
func (c *candidate) hash(self string) float64 {
	sum := sha256.Sum256([]byte(self + "\x00" + c.key))
	h := (float64(binary.BigEndian.Uint64(sum[:])>>11) + 0.5) / (1 << 53) // between 0 and 1, without them
	return float64(max(c.weight, 1)) / -math.Log(h)
}
