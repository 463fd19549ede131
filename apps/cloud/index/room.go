package index

import (
	"slices"
	"strings"
	"time"

	"ztm/tunnel/answer"
)

// A deletion has to be known for as long as an endpoint may come back that knows nothing of it, and brings
// the file back. An app that publishes and deletes day by day must be able to go on all the same: where a
// user has too many files, the oldest deletions are forgotten, and make room for a tenth.

// deletedFor is how long a deletion is known at least.
const deletedFor = 30 * 24 * time.Hour

// room makes room for one more file of a user, or refuses it.
func (b *batch) room(user string) error {
	if b.count(user) < b.x.most {
		return nil
	}
	b.forget(user, time.Now().Add(-deletedFor))
	if b.count(user) >= b.x.most {
		return answer.Errorf(answer.Limit, "user %s has %d files here, with those that were deleted in the last thirty days, which is the limit", user, b.x.most)
	}
	return nil
}

// count returns how many files of a user there are once the batch is saved.
func (b *batch) count(user string) int {
	b.x.mu.Lock()
	defer b.x.mu.Unlock()
	return b.x.users[user] + b.more[user]
}

// forget forgets the oldest deletions of a user from before some time. Of a file that was here, and may be
// here still, it is known what became of it.
func (b *batch) forget(user string, before time.Time) {
	old := b.deletions(user, before)
	for _, row := range old[:min(len(old), b.x.most/10+1)] {
		k := key(user, row.Path)
		b.values[k], b.gone[k] = nil, row
		b.more[user]--
	}
}

// deletions lists the deletions of a user from before some time, the oldest first, but for those that
// the batch has changed.
func (b *batch) deletions(user string, before time.Time) (old []*Row) {
	b.x.mu.Lock()
	defer b.x.mu.Unlock()
	for id, row := range b.x.rows {
		if _, changed := b.values[prefix+id]; row.User == user && row.Deleted && !row.local && !changed && row.Time.Time().Before(before) {
			old = append(old, row)
		}
	}
	slices.SortFunc(old, func(a, b *Row) int { return a.Time.Time().Compare(b.Time.Time()) })
	return old
}

// dropLocked takes the rows of deletions out of the index.
func (x *Index) dropLocked(gone map[string]*Row) {
	if len(gone) == 0 {
		return
	}
	for k, row := range gone {
		delete(x.rows, strings.TrimPrefix(k, prefix))
		x.users[row.User]--
		x.groups.count(row, -1)
		row.Seq = 0 // no turn is of it
	}
	clear(x.forms)
	for id := range x.rows {
		x.formLocked(id)
	}
}
