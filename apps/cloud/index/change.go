package index

import (
	"slices"

	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/tunnel/answer"
)

// Put takes entries that a peer told of. Each is verified by itself: who told it does not matter.
// Versions that are not newer than what is known change nothing. It returns those that took effect,
// and why others were refused: they keep nobody from the rest. After an error nothing was taken.
func (x *Index) Put(list []entry.Signed) (news []*entry.Entry, refused []error, err error) {
	x.changing.Lock()
	defer x.changing.Unlock()
	b := x.begin()
	for _, s := range list {
		e, err := entry.Open(x.notary, s)
		if err != nil {
			refused = append(refused, err)
			continue
		}
		took, err := b.offer(e, s)
		if err != nil {
			refused = append(refused, err)
		}
		if took {
			news = append(news, e)
		}
	}
	if err := b.save(); err != nil {
		return nil, nil, err
	}
	return news, refused, nil
}

// offer takes a verified entry, if it is news.
func (b *batch) offer(e *entry.Entry, s entry.Signed) (took bool, err error) {
	r, known, err := b.get(e.User, e.Path)
	if err != nil {
		return false, err
	}
	if r == nil {
		if err := b.room(e.User); err != nil {
			return false, err
		}
		b.certificate(e.By, s.Certificate)
		b.set(e, &record{By: e.By, Doc: s.Doc})
		return true, nil
	}
	order := entry.Compare(e.Vector, known.Vector)
	if order == entry.Concurrent {
		seen := entry.Merge(r.Seen, entry.Merge(e.Vector, known.Vector))
		if entry.Compare(seen, r.Seen) == entry.Equal {
			return false, nil
		}
		r.Seen = seen
	}
	if entry.Newer(e, known) {
		if known.Content() != e.Content() {
			r.Held = None
		}
		r.By, r.Doc = e.By, s.Doc
		b.certificate(e.By, s.Certificate)
		b.set(e, r)
		return true, nil
	}
	if order == entry.Concurrent {
		b.set(known, r)
	}
	return false, nil
}

// Published is a version that this endpoint makes. The fields that the index knows are left empty:
// By, Vector.
type Published struct {
	Entry entry.Entry
	Local *Local
	Held  Held
	Lost  entry.Readers // who could read the version before, and can read this one no longer
}

// publishFiles is how many files are saved in one transaction.
const publishFiles = 256

// Publish signs versions of files of this endpoint's user, and keeps them. Too many
// groups are refused before any is kept. After another error some of many may be kept.
func (x *Index) Publish(self entry.Author, list []Published) error {
	x.changing.Lock()
	defer x.changing.Unlock()
	if err := x.groupsOf(self.User, list); err != nil {
		return err
	}
	for part := range slices.Chunk(list, publishFiles) {
		b := x.begin()
		for _, p := range part {
			if err := b.publish(self, p); err != nil {
				return err
			}
		}
		if err := b.save(); err != nil {
			return err
		}
	}
	return nil
}

func (b *batch) publish(self entry.Author, p Published) error {
	e := p.Entry
	r, known, err := b.get(self.User, e.Path)
	if err != nil {
		return err
	}
	var before entry.Vector
	if r == nil {
		if err := b.room(self.User); err != nil {
			return err
		}
	} else {
		before = entry.Merge(r.Seen, known.Vector)
	}
	next := &record{By: self.ID, Local: p.Local, Held: p.Held}
	if r != nil {
		next.Farewell, next.Lost = r.Farewell, r.Lost.AddLost(p.Lost, e.Readers)
	}
	e.User, e.By = self.User, self.ID
	if !p.Lost.IsNobody() {
		if before, err = b.farewell(next, e, before); err != nil {
			return err
		}
	}
	e.Vector = before.Next(self.ID)
	next.Local = next.Local.of(&e)
	s, err := entry.Sign(b.x.notary, &e)
	if err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	next.Doc = s.Doc
	b.certificate(e.By, s.Certificate)
	b.set(&e, next)
	return nil
}

// farewell signs, for those who lose access, a version of the file in which there is no file. It
// comes before the version that the others get, so that it can hide nothing from them.
func (b *batch) farewell(r *record, e entry.Entry, before entry.Vector) (entry.Vector, error) {
	gone := entry.Entry{User: e.User, Path: e.Path, By: e.By, Vector: before.Next(e.By), Time: e.Time, Readers: r.Lost.Sorted(), Deleted: true}
	s, err := entry.Sign(b.x.notary, &gone)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	r.Farewell = s.Doc
	return gone.Vector, nil
}

// Here says what this endpoint has of a file.
type Here struct {
	User, Path string
	Content    blocks.Content // that is meant: where the index has another one by now, nothing is noted
	Held       Held
	Local      *Local
}

// Note keeps what this endpoint has of files.
func (x *Index) Note(list []Here) error {
	x.changing.Lock()
	defer x.changing.Unlock()
	b := x.begin()
	for _, h := range list {
		r, known, err := b.get(h.User, h.Path)
		if err != nil {
			return err
		}
		if r == nil || known.Content() != h.Content {
			continue
		}
		r.Held, r.Local = h.Held, h.Local.of(known)
		b.set(known, r)
	}
	return b.save()
}
