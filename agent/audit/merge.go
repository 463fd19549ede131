package audit

import (
	"time"

	"ztm/tunnel/identity"
)

// Limits of what is looked for repeats. Lines beyond them are written one by one.
const (
	mergeTime    = 10 * time.Second // from the first line of a kind
	maxKinds     = 1024
	maxKindsUser = 32 // so that one user cannot have all of them
)

// kind is what lines that are merged have in common.
type kind struct {
	user        string
	peer        identity.ID
	app, target string
	event       Event
	result      string
	reason      Reason
	rule        string // what has let it in; why something was refused is in reason
}

// repeats are the lines of a kind that were left out since the first.
type repeats struct {
	kind
	since   time.Time
	count   int
	last    Line // the newest of them
	in, out int64
}

// merge finds lines that are like one of a moment ago. It is not safe for concurrent use.
type merge struct {
	kinds map[kind]*repeats
	users map[string]int // kinds of each
	queue []*repeats     // all of them, oldest first
}

func newMerge() merge { return merge{kinds: map[kind]*repeats{}, users: map[string]int{}} }

// repeated counts a line that is like one of a moment ago, and reports whether it is.
func (m *merge) repeated(line *Line, now time.Time) bool {
	k := kind{line.User, line.PeerID, line.App, line.Target, line.Event, line.Result, line.Reason, ""}
	if line.Result == OK {
		k.rule = line.Rule
	}
	r := m.kinds[k]
	if r == nil {
		if len(m.queue) < maxKinds && m.users[k.user] < maxKindsUser {
			r = &repeats{kind: k, since: now}
			m.kinds[k] = r
			m.users[k.user]++
			m.queue = append(m.queue, r)
		}
		return false
	}
	r.count++
	r.last, r.in, r.out = *line, r.in+line.In, r.out+line.Out
	return true
}

// due takes out the kinds whose time is over, and returns one line for the repeats of each.
func (m *merge) due(now time.Time) (lines []Line) {
	for len(m.queue) > 0 && now.Sub(m.queue[0].since) >= mergeTime {
		r := m.queue[0]
		m.queue[0] = nil
		m.queue = m.queue[1:]
		delete(m.kinds, r.kind)
		if m.users[r.user]--; m.users[r.user] == 0 {
			delete(m.users, r.user)
		}
		if r.count > 0 {
			line := r.last
			line.Event, line.Of, line.Count, line.In, line.Out = Merged, r.event, r.count, r.in, r.out
			lines = append(lines, line)
		}
	}
	return lines
}

// forget drops what is kept of a user's lines.
func (m *merge) forget(user string) (n int) {
	for _, r := range m.queue {
		if r.user == user {
			n += r.count
			r.count, r.last, r.in, r.out = 0, Line{}, 0, 0
		}
	}
	return n
}
