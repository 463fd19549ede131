package identity

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ztm/tunnel/unixtime"
)

// MaxReason is the longest reason of an eviction, in bytes.
const MaxReason = 120

// Eviction says that all certificates of a user, or of one endpoint or hub, that were admitted at
// or before a time are void.
type Eviction struct {
	User     string // or else
	ID       ID
	Admitted time.Time

	// For people; all of it may be missing.
	Hub    bool      // ID is that of a hub
	Name   string    // of the endpoint, when it was evicted
	Owner  string    // the user of the endpoint
	At     time.Time // when it was evicted
	By     ID        // the endpoint that evicted it
	Reason string    // printable, at most [MaxReason] bytes
}

func (e eviction) public() Eviction {
	out := Eviction{User: e.User, ID: e.ID, Admitted: e.Admitted.Time(), Hub: e.Hub, Name: e.Name, Owner: e.Owner,
		By: e.By, Reason: e.Reason}
	if e.At > 0 {
		out.At = e.At.Time()
	}
	return out
}

// unchecked is the form in a list; see check.
func (e Eviction) unchecked() eviction {
	out := eviction{User: e.User, ID: e.ID, Admitted: unixtime.Of(e.Admitted),
		note: note{Hub: e.Hub, Name: e.Name, Owner: e.Owner, By: e.By, Reason: e.Reason}}
	if !e.At.IsZero() {
		out.At = unixtime.Of(e.At)
	}
	return out
}

// order sorts evictions of different users and IDs: users first.
func order(a, b eviction) int {
	if (a.User == "") != (b.User == "") {
		return strings.Compare(b.User, a.User)
	}
	return cmp.Or(strings.Compare(a.User, b.User), cmp.Compare(a.ID, b.ID))
}

// later compares two evictions of the same user or ID: the one that reaches further counts. The
// notes make it a total order, so that all who unite the same lists get the same list.
func later(a, b eviction) int {
	return cmp.Or(cmp.Compare(a.Admitted, b.Admitted), cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By),
		cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Owner, b.Owner), cmp.Compare(flag01(a.Hub), flag01(b.Hub)))
}

func flag01(b bool) int {
	if b {
		return 1
	}
	return 0
}

// unite returns the union of two sorted lists of evictions: it is commutative, associative and
// idempotent, and contains both.
func unite(a, b []eviction) []eviction {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(x, y eviction) int { return cmp.Or(order(x, y), later(y, x)) })
	return slices.CompactFunc(all, func(x, y eviction) bool { return order(x, y) == 0 })
}

// contains reports whether every eviction of b is in a, and reaches as far there.
func contains(a, b []eviction) bool {
	for _, e := range b {
		i, found := slices.BinarySearchFunc(a, e, order)
		if !found || a[i].Admitted < e.Admitted {
			return false
		}
	}
	return true
}

// check checks the form of an eviction.
func (e eviction) check() bool {
	_, badID := ParseID(string(e.ID))
	_, badBy := ParseID(string(e.By))
	switch {
	case e.Admitted <= 0 || (e.User == "") == (e.ID == ""):
		return false
	case e.User != "" && (CheckName(e.User) != nil || e.Hub || e.Name != "" || e.Owner != ""):
		return false
	case e.ID != "" && badID != nil || e.By != "" && badBy != nil:
		return false
	case e.Name != "" && CheckName(e.Name) != nil || e.Owner != "" && CheckName(e.Owner) != nil:
		return false
	}
	return Printable(e.Reason, 0, MaxReason)
}

// checkEvictions checks the form of the evictions.
func (l *list) checkEvictions() error {
	if len(l.Evictions) > maxEvictions {
		return failf(ErrTrust, "trust list: has %d evictions, at most %d are possible", len(l.Evictions), maxEvictions)
	}
	for i, e := range l.Evictions {
		if !e.check() || i > 0 && order(l.Evictions[i-1], e) >= 0 {
			return failf(ErrTrust, "trust list: eviction %d is malformed or out of order", i)
		}
	}
	return nil
}

// withoutNotes is a list with the same effect, for a document that would be too large.
func (l *list) withoutNotes() list {
	c := l.clone()
	for i, e := range c.Evictions {
		c.Evictions[i].note = note{Hub: e.Hub}
	}
	return c
}
