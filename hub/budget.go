package hub

import (
	"hash/maphash"
	"net/http"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// Rates of requests. Each kind of request has its own budget, and requests about one endpoint, name
// or offer get a quarter of it at most. A client in a loop whose exit is offline takes nothing from
// healthy clients beside it, nor from the requests that keep the endpoint in the mesh.

// budget is a kind of request.
type budget int

const (
	staying   budget = iota // what keeps an endpoint in the mesh: status, events, trust, certificates
	lookup                  // one endpoint of the directory, or an unknown request
	listing                 // a page of the directory
	opening                 // a path as a stream of the control session
	answering               // the same as the answer to a dial-back, which another endpoint caused
	budgets                 // how many there are
)

// allowances is what each endpoint has left.
type allowances struct {
	kinds  [budgets]allowance
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

// newAllowances makes the budgets: request is the rate of each kind, and page that of listing. Each
// table has at most so many buckets.
func newAllowances(request, page limit.Rate, most int) *allowances {
	a := &allowances{byUser: limit.NewBuckets[string](times(page, pagesOfUser), most), seed: maphash.MakeSeed()}
	for kind := range a.kinds {
		rate := request
		if budget(kind) == listing {
			rate = page
		}
		a.kinds[kind] = allowance{limit.NewBuckets[identity.ID](rate, most), limit.NewBuckets[goal](times(rate, goalShare), most)}
	}
	return a
}

func times(r limit.Rate, n float64) limit.Rate {
	return limit.Rate{Burst: max(r.Burst*n, 1), PerSecond: r.PerSecond * n}
}

// take reports whether a peer may make a request of a kind, about something if what is not empty.
func (a *allowances) take(p *peer, kind budget, what string, now time.Time) bool {
	if what != "" && !a.kinds[kind].byGoal.Take(goal{p.ID, maphash.String(a.seed, what)}, now) {
		return false
	}
	if kind == listing && !a.byUser.Take(p.User, now) {
		return false
	}
	return a.kinds[kind].all.Take(p.ID, now)
}

func (a *allowances) sweep(now time.Time) {
	for _, k := range a.kinds {
		k.all.Sweep(now)
		k.byGoal.Sweep(now)
	}
	a.byUser.Sweep(now)
}

// cost returns the budget that a request is charged to, and what it is about. route is nil if the
// hub knows no such request.
func cost(r *http.Request, route *route, arg string) (kind budget, what string) {
	switch {
	case r.Method == http.MethodConnect && r.Header.Get(tunnel.FieldTicket) != "":
		return answering, ""
	case r.Method == http.MethodConnect:
		return opening, r.Host
	case route == nil:
		return lookup, ""
	case route.budget == lookup:
		return lookup, arg
	case route.budget == listing:
		q := r.URL.Query()
		if name := q.Get("name"); name != "" {
			return lookup, name
		}
		return listing, q.Get("offer")
	}
	return route.budget, ""
}
