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

	stranger bool // no record of it is known, only an address
	draining bool
	failed   bool // the last attempt to reach it failed, or it was lost
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
func rank(self string, all []candidate) []candidate {
	out := byWish(self, all)
	if len(out) < 3 {
		return out
	}
	first := out[0]
	elsewhere := func(c candidate) bool { return c.zone != first.zone && c.class() == first.class() }
	others := byWish(self, slices.DeleteFunc(slices.Clone(all), func(c candidate) bool { return !elsewhere(c) }))
	if len(others) == 0 || first.class() != 0 {
		return out
	}
	at := slices.IndexFunc(out, func(c candidate) bool { return c.key == others[0].key })
	second := out[at]
	return slices.Insert(slices.Delete(out, at, at+1), 1, second)
}

// class is what comes before all else: see rank, 1.
func (c candidate) class() int {
	switch {
	case c.failed:
		return 3
	case c.draining:
		return 2
	case c.stranger:
		return 1
	}
	return 0
}

// byWish is rank without its last rule.
func byWish(self string, all []candidate) []candidate {
	least := map[int]time.Duration{}
	for _, c := range all {
		if l, ok := least[c.class()]; c.rtt > 0 && (!ok || c.rtt < l) {
			least[c.class()] = c.rtt
		}
	}
	near := func(c candidate) bool { return c.rtt == 0 || nearly(c.rtt, least[c.class()]) }
	out := slices.Clone(all)
	slices.SortFunc(out, func(a, b candidate) int {
		if order := cmp.Compare(a.class(), b.class()); order != 0 {
			return order
		}
		switch nearA, nearB := near(a), near(b); {
		case nearA && nearB:
			return cmp.Or(cmp.Compare(b.score(self), a.score(self)), cmp.Compare(a.key, b.key))
		case nearA:
			return -1
		case nearB:
			return 1
		}
		return cmp.Or(cmp.Compare(a.rtt, b.rtt), cmp.Compare(a.key, b.key))
	})
	return out
}

// nearly reports whether a round trip is about as good as the least.
func nearly(rtt, least time.Duration) bool {
	return rtt <= max(least+10*time.Millisecond, least*3/2)
}

// score is the rendezvous hash of an endpoint and a hub: of all hubs each has the highest score for
// its share, by weight, of all endpoints (Schindelhauer and Schomaker: -w / ln h).
func (c candidate) score(self string) float64 {
	sum := sha256.Sum256([]byte(self + "\x00" + c.key))
	h := (float64(binary.BigEndian.Uint64(sum[:])>>11) + 0.5) / (1 << 53) // between 0 and 1, without them
	return float64(max(c.weight, 1)) / -math.Log(h)
}
