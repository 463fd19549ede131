package keep

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"ztm/agent/feature"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/memory"
)

// How a version gets from where it was made to all who are online:
//
//	holders of the CA key            the head: they cut their own slices
//	endpoints whose slices it changes  head and slice, in one request on a path that ends with the answer
//	all others                       the same
//
// So what a version takes away is taken first where it was given. A slice that lacks what the endpoint
// asks for is not taken: the endpoint asks a holder. Whoever cannot be told is tried again, and else
// hears of the head from a peer.

const (
	maxTellers   = 400       // endpoints that are told at a time: fewer than the paths that a hub lets root set up
	tellerSize   = 128 << 10 // bytes: a path, a handshake, a session, a slice without the ends of users
	tellerCopies = 4         // of those ends: as they are signed, as the document, and as what is sent
	tellTime     = 5 * time.Second
	tellRounds   = 3      // how often it is tried to tell an endpoint
	maxAskers    = 10_000 // endpoints of which it is remembered what they asked for,
	mostAsked    = 32     // and how many terms of each
)

// tellers is how many endpoints are told at a time: 400, or an eighth of the memory. shared is
// [signed.Cutter.Shared].
func tellers(l memory.Limit, shared int) int {
	return l.Fit(maxTellers, 8, tellerSize+tellerCopies*int64(shared))
}

// handOn tells all who are online of a version that was made here.
func (k *Keeper) handOn(t *telling) {
	source, head, err := k.whole()
	if err != nil || head != t.head {
		return // a newer one is known, and its maker tells of it
	}
	online, err := k.Online(k.Life)
	if err != nil {
		k.PeerLog.Warn("policy", "cannot ask who is online: endpoints hear of the policy from others", "err", err)
		return
	}
	k.forgetAskers(online)
	others := slices.DeleteFunc(online, func(e apps.Endpoint) bool { return e.ID == k.Self })
	k.expect(t, others)
	cuts := k.cutter(source)
	missed := k.inTurn(cuts, others)
	pause := time.NewTimer(0)
	defer pause.Stop()
	for round := 0; round < tellRounds && len(missed) > 0; round++ {
		select {
		case <-pause.C:
		case <-k.Life.Done():
			return
		}
		missed = k.tell(head, cuts, missed)
		pause.Reset(tick)
	}
	k.mu.Lock()
	if k.head == head {
		k.told = source
	}
	k.mu.Unlock()
	k.goOn(t, cuts, missed)
}

// toldAtFirst sets what all were told last, where that is not known: the version before the first one
// that is made here.
func (k *Keeper) toldAtFirst(before *signed.Source) {
	k.mu.Lock()
	if k.told == nil {
		k.told = before
	}
	k.mu.Unlock()
}

// inTurn sorts endpoints: holders of the CA key, then those whose slices are others than when all were
// told last, then all others.
func (k *Keeper) inTurn(cuts *signed.Cutter, all []apps.Endpoint) []apps.Endpoint {
	differ := func(identity.ID, []string) bool { return true }
	k.mu.Lock()
	told := k.told
	k.mu.Unlock()
	if feature.Policies && told != nil {
		differ = cuts.Differs(told.Cutter())
	}
	var turns [3][]apps.Endpoint
	for _, e := range all {
		switch {
		case e.Signer:
			turns[0] = append(turns[0], e)
		case differ(e.ID, k.askedBy(e.ID)):
			turns[1] = append(turns[1], e)
		default:
			turns[2] = append(turns[2], e)
		}
	}
	return slices.Concat(turns[:]...)
}

// tell tells endpoints of a head, as long as it is the newest: who makes another tells all of that. It
// returns those that it could not tell.
func (k *Keeper) tell(head *signed.Signed, cuts *signed.Cutter, list []apps.Endpoint) (missed []apps.Endpoint) {
	next := make(chan apps.Endpoint)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range min(tellers(memory.Here(), cuts.Shared()), len(list)) {
		wg.Go(func() {
			for e := range next {
				if !k.tellOne(head, cuts, e) {
					mu.Lock()
					missed = append(missed, e)
					mu.Unlock()
				}
			}
		})
	}
	for _, e := range list {
		if k.Head() != head || k.Life.Err() != nil {
			break
		}
		next <- e
	}
	close(next)
	wg.Wait()
	return missed
}

// tellOne tells an endpoint, and reports whether it knows now. One that denies it may have an older trust
// list: it is tried again as any other.
func (k *Keeper) tellOne(head *signed.Signed, cuts *signed.Cutter, e apps.Endpoint) bool {
	ctx, cancel := context.WithTimeout(k.Life, tellTime)
	defer cancel()
	var err error
	if e.Signer {
		err = k.tellHead(ctx, e.ID, head)
	} else {
		err = k.give(ctx, e.ID, head, cuts)
	}
	if err != nil {
		k.Log.Debug("an endpoint was not told of the policy", "peer", e.ID, "err", err)
		return false
	}
	k.confirmed(head, e.ID)
	return true
}

func (k *Keeper) tellHead(ctx context.Context, id identity.ID, head *signed.Signed) error {
	return k.ask(ctx, id, http.MethodPost, PathHead, head.Document, signed.MaxHead, nil)
}

// give gives an endpoint its slice. To one for which there is none, the head is all that can be said.
func (k *Keeper) give(ctx context.Context, id identity.ID, head *signed.Signed, cuts *signed.Cutter) error {
	ca, err := k.Signer()
	if err != nil {
		return err
	}
	doc, err := cuts.Slice(head, id, k.askedBy(id)).Sign(ca)
	if err != nil {
		k.PeerLog.Warn("slice", "an endpoint can have no slice of the policy", "peer", id, "err", err)
		return k.tellHead(ctx, id, head)
	}
	body, err := json.Marshal(given{Head: head.Document, Body: doc})
	if err != nil {
		return err
	}
	resp, err := k.AskOnce(ctx, id, http.MethodPut, PathSlice, body)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// noteAsked remembers what an endpoint has asked for with its slice, for the next one.
func (k *Keeper) noteAsked(id identity.ID, asked []string) {
	k.mu.Lock()
	delete(k.askers, id)
	if len(asked) > 0 && len(asked) <= mostAsked && len(k.askers) < maxAskers {
		k.askers[id] = asked
	}
	k.mu.Unlock()
}

// forgetAskers forgets what endpoints have asked for that are not online. They ask again when they come
// back.
func (k *Keeper) forgetAskers(online []apps.Endpoint) {
	there := idsOf(online)
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.askers, func(id identity.ID, _ []string) bool {
		_, ok := there[id]
		return !ok
	})
}

func (k *Keeper) askedBy(id identity.ID) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.askers[id]
}

// serveGiven takes a head with the slice of this endpoint. When it is answered both are in force, and
// what they do not allow has ended.
func (k *Keeper) serveGiven(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r, 2*signed.MaxSlice)
	if err != nil {
		return err
	}
	var in given
	if err := json.Unmarshal(body, &in); err != nil {
		return answer.Errorf(answer.BadRequest, "policy: the slice: %v", err)
	}
	return taken(w, k.takeBoth(in))
}

// takeBoth takes a head and a slice, or the head alone if the slice has not all that is asked for here.
func (k *Keeper) takeBoth(in given) error {
	h, err := k.open(in.Head)
	if err != nil {
		return err
	}
	s, err := signed.OpenSlice(k.Verifier.Trust(), h, k.Self, in.Body)
	if err != nil {
		return err
	}
	k.mu.Lock()
	if h.Newer(k.head) {
		err = k.takeLocked(h)
	}
	lacks := func(term string) bool { return !slices.Contains(s.Asked, term) }
	if err != nil || slices.ContainsFunc(k.askedLocked(), lacks) {
		k.mu.Unlock()
		return err
	}
	return k.putAndUnlock(h, s, in.Body)
}
