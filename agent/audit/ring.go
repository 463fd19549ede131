package audit

import (
	"cmp"
	"container/heap"
	"slices"
)

// ring keeps the newest lines, at most so many. Where it is full, the user with the most lines loses
// the oldest: who floods it pushes out their own lines. A tenth is for administrative lines, so that
// no peer pushes them out. It is not safe for concurrent use.
type ring struct {
	most, mostActs int
	lines          int // of flows
	users          map[string]*share
	richest        shares
	acts           []*Line // administrative, oldest first
}

// share is the lines of one user, oldest first. It is never empty.
type share struct {
	user  string
	lines []*Line
	index int // in ring.richest
}

func newRing(most int) *ring {
	acts := max(most/10, 1)
	return &ring{most: max(most-acts, 1), mostActs: acts, users: map[string]*share{}}
}

// add keeps a line.
func (r *ring) add(l *Line) {
	if l.administrative() {
		if len(r.acts) >= r.mostActs {
			r.acts = shift(r.acts)
		}
		r.acts = append(r.acts, l)
		return
	}
	s := r.users[l.User]
	if s == nil {
		s = &share{user: l.User, lines: []*Line{l}}
		r.users[l.User] = s
		heap.Push(&r.richest, s)
	} else {
		s.lines = append(s.lines, l)
		heap.Fix(&r.richest, s.index)
	}
	if r.lines++; r.lines > r.most {
		r.drop()
	}
}

// drop forgets the oldest line of the user who has most of them.
func (r *ring) drop() {
	s := r.richest[0]
	r.lines--
	if s.lines = shift(s.lines); len(s.lines) > 0 {
		heap.Fix(&r.richest, 0)
		return
	}
	r.remove(s)
}

func (r *ring) remove(s *share) {
	heap.Remove(&r.richest, s.index)
	delete(r.users, s.user)
}

// shift drops the first line, and gives back the room of those before it from time to time.
func shift(lines []*Line) []*Line {
	lines[0] = nil
	lines = lines[1:]
	if cap(lines) == len(lines) {
		lines = append(make([]*Line, 0, len(lines)+len(lines)/2+1), lines...)
	}
	return lines
}

// forget drops all lines about a user, and returns how many there were.
func (r *ring) forget(user string) (n int) {
	if s := r.users[user]; s != nil {
		n = len(s.lines)
		r.lines -= n
		r.remove(s)
	}
	before := len(r.acts)
	r.acts = slices.DeleteFunc(r.acts, func(l *Line) bool { return l.User == user })
	return n + before - len(r.acts)
}

// all lists the lines in the order in which they were added.
func (r *ring) all() []*Line {
	out := slices.Clone(r.acts)
	for _, s := range r.richest {
		out = append(out, s.lines...)
	}
	slices.SortFunc(out, func(a, b *Line) int { return cmp.Compare(a.Seq, b.Seq) })
	return out
}

// shares is a heap: the user with the most lines is first; of several, the one whose line is oldest.
type shares []*share

func (h shares) Len() int { return len(h) }

func (h shares) Less(i, j int) bool {
	a, b := h[i].lines, h[j].lines
	if len(a) == len(b) && len(a) > 0 {
		return a[0].Seq < b[0].Seq
	}
	return len(a) > len(b)
}

func (h shares) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements [heap.Interface].
func (h *shares) Push(x any) {
	s := x.(*share)
	s.index = len(*h)
	*h = append(*h, s)
}

// Pop implements [heap.Interface].
func (h *shares) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return s
}
