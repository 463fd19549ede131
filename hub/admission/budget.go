package admission

import (
	"hash/maphash"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Rates of requests. Each kind of request has its own budget, and requests about one endpoint, name
// or offer get a quarter of it at most. A client in a loop whose exit is offline takes nothing from
// healthy clients beside it, nor from the requests that keep the endpoint in the mesh.

// Budget is a kind of request.
type Budget int

// The kinds.
const (
	Staying   Budget = iota // what keeps an endpoint in the mesh: status, events, trust, certificates
	Lookup                  // one endpoint of the directory, or an unknown request
	Listing                 // a page of the directory
	Opening                 // a path as a stream of the control session
	Answering               // the same as the answer to a dial-back, which another endpoint caused
	kinds                   // how many there are
)

// Budgets are what each endpoint has left.
type Budgets struct {
	left   [kinds]allowance
	byUser *limit.Buckets[string] // pages
	seed   maphash.Seed
}

// allowance is what each endpoint has left of one kind.
type allowance struct {
	all    *limit.Buckets[identity.ID]
	byGoal *limit.Buckets[goal]
}

// goal is what an endpoint's request is about.
type goal struct {
	by   identity.ID
	what uint64 // hash of an ID, name or offer
}

// Rates are those of [NewBudgets].
type Rates struct {
	Request   limit.Rate // of each kind but Listing
	Page      limit.Rate // of Listing
	OfUser    float64    // how often Page all endpoints of a user get together
	GoalShare float64    // the part of a rate that is for one endpoint, name or offer
}

// NewBudgets makes the budgets. Each of its tables has at most so many buckets.
func NewBudgets(r Rates, most int) *Budgets {
	b := &Budgets{byUser: limit.NewBuckets[string](times(r.Page, r.OfUser), most), seed: maphash.MakeSeed()}
	for kind := range b.left {
		rate := r.Request
		if Budget(kind) == Listing {
			rate = r.Page
		}
		b.left[kind] = allowance{
			limit.NewBuckets[identity.ID](rate, most), limit.NewBuckets[goal](times(rate, r.GoalShare), most),
		}
	}
	return b
}

func times(r limit.Rate, n float64) limit.Rate {
	return limit.Rate{Burst: max(r.Burst*n, 1), PerSecond: r.PerSecond * n}
}

// Take reports whether a peer may make a request of a kind, about something if what is not empty.
func (b *Budgets) Take(by identity.Subject, kind Budget, what string, now time.Time) bool {
	left := &b.left[kind]
	if what != "" && !left.byGoal.Take(goal{by.ID, maphash.String(b.seed, what)}, now) {
		return false
	}
	if kind == Listing && !b.byUser.Take(by.User, now) {
		return false
	}
	return left.all.Take(by.ID, now)
}

// Sweep removes idle entries.
func (b *Budgets) Sweep(now time.Time) {
	for _, left := range b.left {
		left.all.Sweep(now)
		left.byGoal.Sweep(now)
	}
	b.byUser.Sweep(now)
}
