package keep

import (
	"context"
	"errors"
	"sync"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// How a new version is made, at an endpoint that holds the CA key:
//
//  1. learn    what other holders have made
//  2. change   the source, by a function that can be run again
//  3. sign     the head of the next version, after the one that is known
//  4. put      source, head and one's own slice on disk and in force, and tell the others
//
// Two holders that do this at once make two heads of one version. All endpoints end at the same one,
// see [signed.Signed.Newer], and the holder of the other runs its function once more.

// proposal is a version that was made here.
type proposal struct {
	head   *signed.Signed
	change func(*signed.Source) error
	lost   bool // another version took its place and does not rest on it; guarded by Keeper.mu
}

// Source returns the policy in force as a whole, and its version; an empty one and 0 without a
// policy. The caller must not change it. Only a holder of the CA key has it.
func (k *Keeper) Source() (*signed.Source, uint64, error) {
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
// called more than once, each time with a source of its own; an error of it changes nothing. Propose
// returns the version.
func (k *Keeper) Propose(ctx context.Context, change func(*signed.Source) error) (uint64, error) {
	ca, err := k.Signer()
	if err != nil {
		return 0, answer.Errorf(answer.Denied, "only an endpoint that holds the CA key can change the policy: %v", err)
	}
	k.proposing.Lock()
	defer k.proposing.Unlock()
	k.learn(ctx)
	for attempt := 0; ; attempt++ {
		if _, _, err := k.whole(); answer.CodeOf(err) == answer.Conflict && attempt < attempts {
			k.learn(ctx) // whoever made the head that is known here has another by now
			continue
		}
		change = k.withLost(change)
		head, doc, err := k.next(ca, change)
		if err != nil {
			return 0, err
		}
		err = k.commit(&proposal{head: head, change: change}, doc)
		if errors.Is(err, identity.ErrRollback) {
			continue // another holder was faster
		}
		if err != nil {
			return 0, err
		}
		if err := k.cut(ca); err != nil && !errors.Is(err, identity.ErrRollback) { // else Run goes on from another head
			return 0, err
		}
		k.Work.Go(k.handOn)
		return head.Version, nil
	}
}

// withLost adds to a change the one before it, if that was lost to another holder.
func (k *Keeper) withLost(change func(*signed.Source) error) func(*signed.Source) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mine == nil || !k.mine.lost {
		return change
	}
	lost := k.mine.change
	k.mine = nil
	return func(s *signed.Source) error {
		before := s.Clone()
		if lost(before) == nil { // what is impossible by now is not this caller's matter
			*s = *before
		}
		return change(s)
	}
}

// learn asks other holders for their heads. One that does not answer cannot be waited for.
func (k *Keeper) learn(ctx context.Context) {
	holders, err := k.Holders(ctx)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	for _, h := range holders[:min(len(holders), tellers)] {
		wg.Go(func() {
			if err := k.askHead(ctx, h.ID); err != nil {
				k.Log.Info("an endpoint that holds the CA key does not say which policy it has", "peer", h.ID, "err", err)
			}
		})
	}
	wg.Wait()
}

// next makes the next head and the document of its source.
func (k *Keeper) next(ca *identity.CA, change func(*signed.Source) error) (*signed.Signed, []byte, error) {
	old, head, err := k.whole()
	if err != nil {
		return nil, nil, err
	}
	if head == nil {
		old = empty()
	}
	source := old.Clone()
	if err := change(source); err != nil {
		return nil, nil, err
	}
	doc, err := source.Marshal()
	if err != nil {
		return nil, nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	trust := k.Verifier.Trust()
	h := signed.Head{Mesh: trust.Mesh(), Version: 1, Issued: k.now(), Trust: trust.Version(), Source: signed.Sum(doc), Mode: source.Mode}
	if head != nil {
		h.Version, h.Issued, h.Previous = head.Version+1, max(h.Issued, head.Issued), head.Sum
	}
	made, err := h.Sign(ca, trust)
	return made, doc, err
}

// commit takes a head that was made here, with its source: both are on disk, or none is.
func (k *Keeper) commit(p *proposal, doc []byte) error {
	source, err := signed.Parse(doc)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !p.head.Newer(k.head) {
		return identity.ErrRollback
	}
	if err := k.State.SaveAll(map[string]any{stateAll: doc, stateHead: p.head.Document}); err != nil {
		return err
	}
	k.mine = p
	k.adoptLocked(p.head)
	k.source = source
	return nil
}

// resign runs again what was changed here and lost to another holder, and signs what is in force once
// more when the mesh has another CA: a stolen old key makes no policy.
func (k *Keeper) resign() {
	if _, err := k.Signer(); err != nil {
		return
	}
	k.mu.Lock()
	head, change := k.head, func(*signed.Source) error { return nil }
	lost := k.mine != nil && k.mine.lost
	k.mu.Unlock()
	switch {
	case lost:
	case head == nil || head.By == k.Verifier.Trust().Newest():
		return
	}
	if _, err := k.Propose(k.Life, change); err != nil {
		k.PeerLog.Warn("policy sign", "a change of the policy was lost to another, or the policy is not signed by the mesh's new CA", "err", err)
	}
}
