package keep

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"ztm/agent/feature"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// Run keeps the policy up to date until the membership ends. What has come to its end is looked for
// while a holder is waited for.
func (k *Keeper) Run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	caughtUp := make(chan struct{}, 1)
	busy, woken := false, false
	for {
		due := true
		select {
		case <-k.wake:
			woken = true
		case <-timer.C:
		case <-caughtUp:
			busy, due = false, woken
		case <-k.Life.Done():
			return
		}
		if due && !busy {
			woken = false
			busy = k.Work.Go(func() {
				k.catchUp()
				caughtUp <- struct{}{}
			})
		}
		timer.Reset(k.look())
	}
}

// catchUp gets what is known of and missing.
func (k *Keeper) catchUp() {
	if feature.Policies {
		k.resign()
	}
	if !k.behind() {
		return
	}
	if err := k.refresh(); err != nil && k.Life.Err() == nil {
		k.PeerLog.Warn("policy", "the policy is known and cannot be had: it is asked for again", "err", err)
	}
}

// behind reports whether a slice is missing, or one with more in it.
func (k *Keeper) behind() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.head != nil && (k.slice == nil || k.slice.Head != k.head.Sum || len(k.wanted) > 0)
}

// look ends what has come to its end, and returns when to look again.
func (k *Keeper) look() time.Duration {
	now := k.now()
	k.mu.Lock()
	r := k.rights.Load()
	end := r.Next(k.judged)
	stale := k.staleLocked(time.Now()) && !r.IsStale()
	if stale {
		k.compileLocked()
	}
	again := k.again || stale || end != 0 && end <= now
	k.judged, k.again = now, false
	behind := k.head != nil && (k.slice == nil || k.slice.Head != k.head.Sum || len(k.wanted) > 0)
	k.mu.Unlock()
	if again {
		k.Judge()
	}
	if behind || r.Next(now) != 0 {
		return tick
	}
	return askAgain
}

// refresh gets the slice of the newest head.
func (k *Keeper) refresh() error {
	if feature.Policies {
		if ca, err := k.Signer(); err == nil {
			return k.cut(ca)
		}
	}
	ctx, cancel := context.WithTimeout(k.Life, 2*askTime)
	defer cancel()
	_, err := k.ofHolders(ctx, func(ctx context.Context, id identity.ID) (given, error) { return given{}, k.askSlice(ctx, id) })
	return err
}

// hedge is how long a holder is waited for until the next one is asked as well: one that is silent
// must not keep a cut from others.
const hedge = time.Second

// ofHolders asks other holders of the CA key, in any order, until one has given what is asked for.
func (k *Keeper) ofHolders(ctx context.Context, ask func(context.Context, identity.ID) (given, error)) (got given, err error) {
	holders, err := k.Holders(ctx)
	if err != nil {
		return got, err
	}
	ctx, cancel := context.WithCancel(ctx) // ends what is still asked
	defer cancel()
	type result struct {
		got given
		err error
	}
	results := make(chan result, len(holders))
	timer := time.NewTimer(0)
	defer timer.Stop()
	err = answer.Errorf(answer.Unavailable, "no endpoint that holds the CA key is online")
	order := rand.Perm(len(holders))
	for asked := 0; len(order) > 0 || asked > 0; {
		select {
		case <-timer.C:
			if len(order) == 0 {
				continue
			}
			id := holders[order[0]].ID
			order = order[1:]
			asked++
			go func() { // ends with ctx
				got, err := ask(ctx, id)
				results <- result{got, err}
			}()
			timer.Reset(hedge)
		case r := <-results:
			asked--
			if r.err == nil {
				return r.got, nil
			}
			err = r.err
			timer.Reset(0)
		case <-ctx.Done():
			return got, context.Cause(ctx)
		}
	}
	return got, err
}

// cut makes the slice of this endpoint, which holds the CA key, from the source.
func (k *Keeper) cut(ca *identity.CA) error {
	source, head, err := k.whole()
	if err != nil {
		return err
	}
	k.mu.Lock()
	asked := k.askedLocked()
	k.mu.Unlock()
	doc, err := k.cutter(source).Slice(head, k.Self, asked).Sign(ca)
	if err != nil {
		return err
	}
	return k.put(head, doc)
}

// cutter returns what cuts slices of a source.
func (k *Keeper) cutter(source *signed.Source) *signed.Cutter {
	k.mu.Lock()
	cuts := k.cuts
	k.mu.Unlock()
	if cuts == nil || cuts.Source != source {
		cuts = source.Cutter()
		k.mu.Lock()
		k.cuts = cuts
		k.mu.Unlock()
	}
	return cuts
}

// whole returns the source of the newest head, from the disk or from another holder.
func (k *Keeper) whole() (*signed.Source, *signed.Signed, error) {
	k.mu.Lock()
	source, head := k.source, k.head
	k.mu.Unlock()
	if source != nil || head == nil {
		return source, head, nil
	}
	var doc, fetched []byte
	var line []string
	if _, err := k.State.Load(stateAll, &doc); err != nil {
		return nil, nil, err
	}
	if signed.Sum(doc) != head.Source {
		ctx, cancel := context.WithTimeout(k.Life, 2*askTime)
		defer cancel()
		got, err := k.ofHolders(ctx, func(ctx context.Context, id identity.ID) (given, error) { return k.askSource(ctx, id, head) })
		if err != nil {
			return nil, nil, err
		}
		doc, fetched, line = got.Body, got.Body, got.Line
	}
	source, err := signed.Read(doc)
	if err != nil {
		return nil, nil, err
	}
	return source, head, k.adoptSource(source, head, fetched, line)
}

// adoptSource keeps the source of a head, if that is still the newest, and what the head rests on. doc is
// what is not on disk yet.
func (k *Keeper) adoptSource(source *signed.Source, head *signed.Signed, doc []byte, line []string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.head != head {
		return nil
	}
	values := map[string]any{}
	if doc != nil {
		values[stateAll] = doc
	}
	if len(line) <= len(k.line) || line[0] != head.Previous { // of another head
		line = k.line
	} else if feature.Policies {
		values[stateMade] = remember(k.made, line)
	}
	if len(values) > 0 {
		if err := k.State.SaveAll(values); err != nil {
			return err
		}
	}
	k.source, k.line = source, line
	return nil
}

// given is what a holder answers: a document with the head that it is of.
type given struct {
	Head []byte `json:"head"`
	Body []byte `json:"body"`

	Line []string `json:"line,omitempty"` // with a source: sums of the heads that Head rests on, the newest first
}

// request is what an endpoint asks a holder for its slice with.
type request struct {
	Asked []string `json:"asked"` // the terms that its rules name
}

// askSlice asks a holder for the slice of this endpoint.
func (k *Keeper) askSlice(ctx context.Context, id identity.ID) error {
	k.mu.Lock()
	asked := k.askedLocked()
	k.mu.Unlock()
	body, err := json.Marshal(request{asked})
	if err != nil {
		return err
	}
	var out given
	if err := k.ask(ctx, id, http.MethodPost, PathSlice, body, 2*signed.MaxSlice, &out); err != nil {
		return err
	}
	if err := k.Take(out.Head); err != nil && !errors.Is(err, identity.ErrRollback) {
		return err
	}
	h := k.Head()
	if h.Sum != signed.Sum(out.Head) {
		return answer.Errorf(answer.Conflict, "endpoint %s has an older policy", id)
	}
	return k.put(h, out.Body)
}

// askSource asks another holder for the source of a head, and for what the head rests on.
func (k *Keeper) askSource(ctx context.Context, id identity.ID, head *signed.Signed) (out given, _ error) {
	if err := k.ask(ctx, id, http.MethodGet, PathSource, nil, 2*signed.MaxSource, &out); err != nil {
		return out, err
	}
	if signed.Sum(out.Body) != head.Source {
		return out, answer.Errorf(answer.Conflict, "endpoint %s has another policy", id)
	}
	if out.Line = out.Line[:min(len(out.Line), maxLine)]; signed.Sum(out.Head) != head.Sum { // another head of the same source
		out.Line = nil
	}
	return out, nil
}

// ask asks a peer, and reads an answer of at most limit bytes.
func (k *Keeper) ask(ctx context.Context, id identity.ID, method, path string, body []byte, limit int64, out any) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	resp, err := k.Ask(ctx, id, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := answer.Limited(resp.Body, limit)
	if err != nil || out == nil {
		return err
	}
	if raw, ok := out.(*[]byte); ok {
		*raw = b
		return nil
	}
	return json.Unmarshal(b, out)
}

// askHead asks a peer for its head.
func (k *Keeper) askHead(ctx context.Context, id identity.ID) error {
	var doc []byte
	if err := k.ask(ctx, id, http.MethodGet, PathHead, nil, signed.MaxHead, &doc); err != nil || len(doc) == 0 {
		return err
	}
	err := k.Take(doc)
	if errors.Is(err, identity.ErrRollback) {
		return nil
	}
	return err
}

// Connected asks a holder for its head, once for each session with a hub: what was made while this
// endpoint was away is not told again.
//
// When a hub comes back all endpoints do: they do not ask at once.
func (k *Keeper) Connected() {
	k.Work.Go(func() {
		late := time.NewTimer(rand.N(askSpread))
		defer late.Stop()
		select {
		case <-late.C:
		case <-k.Life.Done():
			return
		}
		ctx, cancel := context.WithTimeout(k.Life, 2*askTime)
		defer cancel()
		if _, err := k.ofHolders(ctx, func(ctx context.Context, id identity.ID) (given, error) { return given{}, k.askHead(ctx, id) }); err != nil {
			k.Log.Debug("no endpoint that holds the CA key says which policy there is", "err", err)
		}
	})
}

// askSpread is the time within which endpoints ask that connect at once.
const askSpread = 5 * time.Second
