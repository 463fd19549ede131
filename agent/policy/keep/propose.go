package keep

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"ztm/agent/feature"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// How a new version is made, at an endpoint that holds the CA key:
//
//  1. learn    what other holders have made
//  2. change   the source, by a function that can be run again
//  3. sign     the head of the next version, after the one that is known
//  4. put      source, head and one's own slice on disk and in force, and tell the others
//
// Two holders that do this at once make two heads of one version. All endpoints end at the same one,
// see [signed.Signed.Newer], and the holder of the other runs its function once more. By then it may
// have made several versions, and so may the other: a holder remembers its last ones, and which heads
// the one in force rests on, see remember.go. Holders tell each other that with the source.

// proposal is a version that was made here.
type proposal struct {
	head   *signed.Signed
	change func(*signed.Source) error
	lost   []*proposal  // which change runs again
	delta  signed.Delta // what change came to
}

const (
	maxMade = 16 // versions that were made here and are remembered
	maxLine = 64 // sums of heads that are remembered
)

// lineOf returns what a head rests on, by what is known of others, the newest first.
func lineOf(h *signed.Signed, known []string) []string {
	if h.Previous == "" {
		return nil
	}
	at := slices.Index(known, h.Previous)
	if at < 0 {
		return []string{h.Previous}
	}
	return slices.Clone(known[at:min(len(known), at+maxLine)])
}

// lostLocked lists the versions that were made here and that the newest head does not rest on, or not
// for all that is known.
func (k *Keeper) lostLocked() (lost []*proposal) {
	if !feature.Policies {
		return nil
	}
	for _, p := range k.made {
		if p.head.Sum != k.head.Sum && k.head.Version-p.head.Version <= maxLine && !slices.Contains(k.line, p.head.Sum) {
			lost = append(lost, p)
		}
	}
	return lost
}

// Source returns the policy in force as a whole, and its version; an empty one and 0 without a
// policy. The caller must not change it. Only a holder of the CA key has it.
func (k *Keeper) Source() (*signed.Source, uint64, error) {
	if !feature.Policies {
		return nil, 0, errMakesNone
	}
	if _, err := k.Signer(); err != nil {
		return nil, 0, answer.Errorf(answer.Denied, "the policy as a whole is kept where the CA key is: %v", err)
	}
	source, head, err := k.whole()
	switch {
	case err != nil:
		return nil, 0, err
	case head == nil:
		return empty(), 0, nil
	}
	return source, head.Version, nil
}

// attempts is how often it is tried to learn what others have made, before a change gives up.
const attempts = 10

func empty() *signed.Source {
	return &signed.Source{Users: map[string]signed.User{}, Groups: map[string]signed.Group{}, Endpoints: map[string]signed.Endpoint{}, Grants: []signed.Grant{}}
}

// Propose makes the next version of the policy, by a change of the one in force. change may be
// called more than once, each time with a source of its own; an error of it changes nothing. With nil the
// same is signed once more, with what was lost of the changes before. Propose returns the version.
func (k *Keeper) Propose(ctx context.Context, change func(*signed.Source) error) (uint64, error) {
	ca, err := k.Signer()
	if err != nil {
		return 0, answer.Errorf(answer.Denied, "only an endpoint that holds the CA key can change the policy: %v", err)
	}
	k.proposing.Lock()
	defer k.proposing.Unlock()
	k.learn(ctx)
	at := k.SigningTime(ctx, k.Verifier.Clock().Now())
	for attempt := 0; ; attempt++ {
		before, _, err := k.whole()
		if answer.CodeOf(err) == answer.Conflict && attempt < attempts {
			k.learn(ctx) // whoever made the head that is known here has another by now
			continue
		}
		d, err := k.next(ca, at, change)
		if err == nil {
			err = k.commit(d)
		}
		if errors.Is(err, identity.ErrRollback) {
			continue // another holder was faster
		}
		if err != nil {
			return 0, err
		}
		if err := k.cut(ca); err != nil && !errors.Is(err, identity.ErrRollback) { // else Run goes on from another head
			return 0, err
		}
		k.toldAtFirst(before)
		t := k.begin(d.head)
		k.Work.Go(func() { k.handOn(t) })
		return d.head.Version, nil
	}
}

// withLost adds to a change those before it that were lost to another holder.
func withLost(lost []*proposal, change func(*signed.Source) error) func(*signed.Source) error {
	if change == nil {
		change = same
	}
	if len(lost) == 0 {
		return change
	}
	return func(s *signed.Source) error {
		for _, p := range lost {
			before := s.Clone()
			if p.change(before) == nil && before.CheckAdded(s) == nil { // what is impossible by now is not this caller's matter
				*s = *before
			}
		}
		return change(s)
	}
}

// maxLearned is how many holders are asked at once.
const maxLearned = 16

// learn asks other holders for their heads. One that does not answer cannot be waited for.
func (k *Keeper) learn(ctx context.Context) {
	holders, err := k.Holders(ctx)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, h := range holders[:min(len(holders), maxLearned)] {
		wg.Go(func() {
			if err := k.askHead(ctx, h.ID); err != nil {
				k.Log.Info("an endpoint that holds the CA key does not say which policy it has", "peer", h.ID, "err", err)
			}
		})
	}
	wg.Wait()
}

// draft is a version that is not in force yet.
type draft struct {
	*proposal
	source *signed.Source // that the head is of
	doc    []byte         // of source; nil: it is that of the head before
}

// next makes the next version, signed at a time. Errors match [identity.ErrRollback] where there is
// another head by now.
func (k *Keeper) next(ca *identity.CA, at time.Time, change func(*signed.Source) error) (d draft, err error) {
	old, head, lost, err := k.base()
	if err != nil {
		return d, err
	}
	trust := k.Verifier.Trust()
	h := signed.Head{Mesh: trust.Mesh(), Version: 1, Issued: unixtime.Of(at), Trust: trust.Version()}
	if head != nil {
		h.Version, h.Issued, h.Previous, h.Source = head.Version+1, max(h.Issued, head.Issued), head.Sum, head.Source
	}
	d = draft{&proposal{change: same, lost: lost}, old, nil}
	changes := feature.Policies && (change != nil || len(lost) > 0)
	if changes {
		d.change = withLost(slices.Clone(lost), change)
		if d.source, d.doc, err = changed(old, trust, at, d.change); err != nil {
			return d, err
		}
		h.Source = signed.Sum(d.doc)
	}
	h.Mode, h.Direct = d.source.Mode, d.source.Direct
	if d.head, err = h.Sign(ca, trust); err != nil || !changes {
		return d, err
	}
	if err := k.fits(ca, d.source, d.head); err != nil {
		return d, err
	}
	d.delta, err = signed.DeltaOf(old, d.source)
	return d, err
}

// base returns what the next version is made from: the newest head, which may be nil, its source, and the
// versions that were made here and are not in it.
func (k *Keeper) base() (source *signed.Source, head *signed.Signed, lost []*proposal, err error) {
	source, head, err = k.whole()
	if err != nil {
		return nil, nil, nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.head != head:
		return nil, nil, nil, identity.ErrRollback
	case head == nil:
		return empty(), nil, nil, nil
	}
	return source, head, k.lostLocked(), nil
}

// same is a change of nothing.
func same(*signed.Source) error { return nil }

// changed makes a change of a copy of a source, signed at a time, and returns its document as well.
func changed(old *signed.Source, trust *identity.Trust, at time.Time, change func(*signed.Source) error) (*signed.Source, []byte, error) {
	source := old.Clone()
	if err := change(source); err != nil {
		return nil, nil, err
	}
	// What lies ahead, by whatever clock, no eviction of today would reach.
	eachNew(source, old, func(user string, added unixtime.Seconds) unixtime.Seconds {
		return min(added, unixtime.Of(trust.Admission(user, at)))
	})
	doc, err := source.Marshal()
	if err == nil {
		err = source.CheckAdded(old)
	}
	if err != nil {
		return nil, nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	return source, doc, nil
}

// eachNew sets when those were added whom a source has and another has not: by the user, and what the
// source says.
func eachNew(source, old *signed.Source, set func(user string, added unixtime.Seconds) unixtime.Seconds) {
	for name, g := range source.Groups {
		before := map[signed.Who]struct{}{}
		for _, m := range old.Groups[name].Members {
			before[signed.Who{Name: m.User, Added: m.Added}] = struct{}{}
		}
		for i, m := range g.Members {
			if _, known := before[signed.Who{Name: m.User, Added: m.Added}]; !known {
				g.Members[i].Added = set(m.User, m.Added)
			}
		}
	}
	before := map[string][]signed.Who{}
	for _, g := range old.Grants {
		before[g.Name] = g.Who
	}
	for _, g := range source.Grants {
		for i, w := range g.Who {
			if w.Added != 0 && !slices.Contains(before[g.Name], w) {
				g.Who[i].Added = set(w.Name, w.Added)
			}
		}
	}
}

// fits reports whether a slice can be made of a source: of this endpoint, and of one that the source
// does not name, which has in it what all have. Without one an endpoint lets nobody in.
func (k *Keeper) fits(ca *identity.CA, source *signed.Source, head *signed.Signed) error {
	k.mu.Lock()
	asked := k.askedLocked()
	k.mu.Unlock()
	cuts := source.Cutter()
	for id, asked := range map[identity.ID][]string{k.Self: asked, "": nil} {
		if _, err := cuts.Slice(head, id, asked).Sign(ca); err != nil {
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	return nil
}

// commit takes a head that was made here, with its source: both are on disk, or none is.
func (k *Keeper) commit(d draft) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !d.head.Newer(k.head) {
		return identity.ErrRollback
	}
	values := map[string]any{stateHead: d.head.Document}
	made := k.made
	if feature.Policies {
		made = append(slices.DeleteFunc(slices.Clone(made), func(o *proposal) bool { return slices.Contains(d.lost, o) }), d.proposal)
		made = slices.Delete(made, 0, max(0, len(made)-maxMade))
		values[stateMade] = remember(made, k.lineWithLocked(d.head))
	}
	if d.doc != nil {
		values[stateAll] = d.doc
	}
	if err := k.State.SaveAll(values); err != nil {
		return err
	}
	k.made = made
	d.lost = nil // its change has them
	k.adoptLocked(d.head)
	k.source = d.source
	return nil
}

// lost returns the newest head, and whether something that was changed here is not in it for all that
// is known.
func (k *Keeper) lost() (*signed.Signed, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.head, k.head != nil && len(k.lostLocked()) > 0
}

// resign runs again what was changed here and lost to another holder, and signs what is in force once
// more when the mesh has another CA: a stolen old key makes no policy.
func (k *Keeper) resign() {
	if _, err := k.Signer(); err != nil {
		return
	}
	head, lost := k.lost()
	if lost {
		k.whole() // whoever has it may know that nothing was lost
		head, lost = k.lost()
	}
	switch {
	case lost:
	case head == nil || head.By == k.Verifier.Trust().Newest():
		return
	}
	if _, err := k.Propose(k.Life, nil); err != nil {
		k.PeerLog.Warn("policy sign", "a change of the policy was lost to another, or the policy is not signed by the mesh's new CA", "err", err)
	}
}
