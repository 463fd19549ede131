package keep

import (
	"slices"

	signed "ztm/tunnel/identity/policy"
)

// What was made here is remembered over a restart: a version that another holder's took the place of
// while this one was off would be lost without a word. A change on disk is what it came to, and not
// the function that made it: a piece that another has changed meanwhile is not changed again.

// remembered is what is on disk beside a head.
type remembered struct {
	Line []string  `json:"line"` // see Keeper.line
	Made []madeRow `json:"made"` // see Keeper.made
}

// madeRow is a version that was made here.
type madeRow struct {
	Head  []byte       `json:"head"`
	Delta signed.Delta `json:"delta"`
}

// maxDelta is how many bytes of changes are on disk. A larger one, as of a whole file that is put in
// force, is not remembered over a restart.
const maxDelta = 1 << 20

// remember returns what is to be on disk of versions that were made here and of a line.
func remember(made []*proposal, line []string) remembered {
	r := remembered{Line: line}
	size := 0
	for _, p := range slices.Backward(made) {
		for _, piece := range p.delta {
			size += len(piece.Key) + len(piece.Was) + len(piece.Now)
		}
		if size > maxDelta {
			break
		}
		r.Made = append(r.Made, madeRow{p.head.Document, p.delta})
	}
	slices.Reverse(r.Made)
	return r
}

// recallLocked reads what is remembered beside the head. A line that is remembered of an older head is
// not that of this one.
func (k *Keeper) recallLocked(h *signed.Signed) error {
	var r remembered
	found, err := k.State.Load(stateMade, &r)
	if err != nil || !found {
		return err
	}
	k.line = lineOf(h, r.Line)
	for _, row := range r.Made {
		head, err := signed.OpenHead(k.Verifier.Trust(), row.Head)
		if err != nil {
			k.Log.Info("a change of the policy that was made here is not remembered", "err", err)
			continue
		}
		k.made = append(k.made, &proposal{head: head, change: row.Delta.On, delta: row.Delta})
	}
	return nil
}

// lineWithLocked returns what a head rests on that takes the place of the newest one.
func (k *Keeper) lineWithLocked(h *signed.Signed) []string {
	known := k.line
	if k.head != nil {
		known = slices.Insert(slices.Clone(known), 0, k.head.Sum)
	}
	return lineOf(h, known)
}
