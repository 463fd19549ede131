package keep

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
)

// telling is how far a version that was made here has come.
type telling struct {
	head *signed.Signed
	left map[identity.ID]string // who was online and has not confirmed it, with the names; nil: not known yet; guarded by mu of the Keeper
	over chan struct{}          // closed when all have confirmed it, or another is made here
}

const (
	confirmTime = 5 * time.Second // how long an answer waits for those who are online to confirm a version
	tellAgain   = time.Minute     // how often those are told again who did not answer at first
)

// begin notes that all are to be told of a head, and of no older one any longer.
func (k *Keeper) begin(head *signed.Signed) *telling {
	t := &telling{head: head, over: make(chan struct{})}
	k.mu.Lock()
	k.endLocked()
	k.telling = t
	k.mu.Unlock()
	return t
}

// endLocked ends the wait of all who wait for the telling.
func (k *Keeper) endLocked() {
	if t := k.telling; t != nil && (t.left == nil || len(t.left) > 0) {
		close(t.over)
		t.left = map[identity.ID]string{}
	}
}

// expect notes who is online, and so is to confirm.
func (k *Keeper) expect(t *telling, online []apps.Endpoint) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.telling != t {
		return
	}
	if len(online) == 0 {
		k.endLocked()
		return
	}
	t.left = make(map[identity.ID]string, len(online))
	for _, e := range online {
		t.left[e.ID] = cmp.Or(e.Name, string(e.ID))
	}
}

// confirmed notes that an endpoint has the newest head, with what it needs of it, or gets that by itself.
func (k *Keeper) confirmed(head *signed.Signed, id identity.ID) {
	k.mu.Lock()
	if t := k.telling; t != nil && t.head == head {
		if _, waited := t.left[id]; waited && len(t.left) == 1 {
			k.endLocked()
		} else {
			delete(t.left, id)
		}
	}
	k.mu.Unlock()
}

// goOn tells those again who did not answer at first, while they are online: whoever comes back asks.
func (k *Keeper) goOn(t *telling, cuts *signed.Cutter, missed []apps.Endpoint) {
	pause := time.NewTimer(tellAgain)
	defer pause.Stop()
	for len(missed) > 0 {
		select {
		case <-pause.C:
		case <-t.over:
			return
		case <-k.Life.Done():
			return
		}
		if online, err := k.Online(k.Life); err == nil {
			missed = k.tell(t.head, cuts, k.stillThere(t, online, missed))
		}
		pause.Reset(tellAgain)
	}
}

// stillThere returns those of a list who are online. The others are waited for no longer.
func (k *Keeper) stillThere(t *telling, online, list []apps.Endpoint) []apps.Endpoint {
	there := idsOf(online)
	return slices.DeleteFunc(list, func(e apps.Endpoint) bool {
		_, is := there[e.ID]
		if !is {
			k.confirmed(t.head, e.ID)
		}
		return !is
	})
}

func idsOf(list []apps.Endpoint) map[identity.ID]struct{} {
	out := make(map[identity.ID]struct{}, len(list))
	for _, e := range list {
		out[e.ID] = struct{}{}
	}
	return out
}

// unconfirmed names those who were online and have not confirmed the newest version, if that was made
// here. For those who may yet do it waits a little.
func (k *Keeper) unconfirmed(ctx context.Context) ([]string, error) {
	k.mu.Lock()
	t := k.telling
	k.mu.Unlock()
	if t == nil {
		return []string{}, nil
	}
	late := time.NewTimer(confirmTime)
	defer late.Stop()
	select {
	case <-t.over:
	case <-late.C:
	case <-ctx.Done():
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.telling == t && t.left == nil {
		return nil, answer.Errorf(answer.Unavailable, "it is not known who is online, and nobody was told of the policy yet")
	}
	return k.leftLocked(), nil
}

// leftLocked names, sorted, those who have not confirmed the newest version.
func (k *Keeper) leftLocked() []string {
	if k.telling == nil || k.telling.head != k.head {
		return []string{}
	}
	return append([]string{}, slices.Sorted(maps.Values(k.telling.left))...)
}
