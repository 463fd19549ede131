package hub

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// endpoint is one entry of the directory. Its row is replaced as a whole, never changed.
type endpoint struct {
	*row
	session *session // nil: offline
	address string   // of the last session; "" since the hub has started
	seen    int64    // Unix seconds of the end of the last session, or of the record
}

// registry is the directory: who there is, under which name, and who is online. It is in memory; saver brings the rows
// to disk.
type registry struct {
	limits Limits
	now    func() time.Time
	saver  *saver
	online atomic.Int64

	mu      sync.RWMutex
	byID    map[identity.ID]*endpoint
	byName  []*endpoint // sorted; names are unique
	byUser  map[string]int
	kept    map[string]keptName // names that became free
	changed map[string]struct{} // names whose entry in kept is to be saved
}

func newRegistry(st *state, limits Limits, now func() time.Time) (*registry, error) {
	g := &registry{limits: limits, now: now, byID: map[identity.ID]*endpoint{}, byUser: map[string]int{}, changed: map[string]struct{}{}}
	g.saver = newSaver(g.rows, func(rows map[identity.ID]*row) error { return st.setEndpoints(rows, g.changedNames()) })
	var err error
	if g.kept, err = st.keptNames(); err != nil {
		return nil, err
	}
	err = st.endpoints(func(r row) {
		e := &endpoint{row: &r, seen: r.Record.Time / 1000}
		g.byID[r.Subject.ID] = e
		g.byName = append(g.byName, e)
		g.byUser[r.Subject.User]++
	})
	slices.SortFunc(g.byName, func(a, b *endpoint) int { return strings.Compare(a.Record.Name, b.Record.Name) })
	return g, err
}

// register puts a record into the directory, which the caller has verified to be the peer's own. It returns when the
// record is on disk.
func (g *registry) register(doc []byte, rec identity.Record, subject identity.Subject) error {
	rec.Certificate = nil
	next := &row{Doc: bytes.Clone(doc), Subject: subject, Record: rec}
	changed, refusal := g.put(next)
	if refusal != nil {
		return refusal
	}
	if !changed {
		return nil
	}
	return g.saver.save(subject.ID)
}

// put adds an endpoint or replaces its row, and reports whether there is anything to save.
func (g *registry) put(next *row) (changed bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.byID[next.Subject.ID]
	if i, taken := g.searchLocked(next.Record.Name); taken && g.byName[i] != e {
		return false, takenError(g.byName[i])
	}
	if err := g.mayHaveLocked(next.Record.Name, next.Subject.User); err != nil {
		return false, err
	}
	if e == nil {
		changed, err = true, g.addLocked(next)
	} else {
		changed, err = g.replaceLocked(e, next)
	}
	if err == nil {
		g.freeLocked(next.Record.Name)
	}
	return changed, err
}

func (g *registry) addLocked(r *row) error {
	if len(g.byID) >= g.limits.Agents {
		return limited("the mesh has %d endpoints, and this hub takes no more", len(g.byID))
	}
	if err := g.joinUserLocked(r.Subject.User); err != nil {
		return err
	}
	e := &endpoint{row: r, seen: r.Record.Time / 1000}
	g.byID[r.Subject.ID] = e
	g.insertLocked(e)
	return nil
}

func (g *registry) replaceLocked(e *endpoint, next *row) (changed bool, err error) {
	old := e.row
	if next.Record.Time < old.Record.Time {
		return false, answer.Errorf(answer.Conflict, "the record of endpoint %s is older than the one the hub has (%s, %s)",
			next.Record.Name, date(next.Record.Time), date(old.Record.Time))
	}
	if old.Subject.User != next.Subject.User { // the same device was invited again, as another user
		if err := g.joinUserLocked(next.Subject.User); err != nil {
			return false, err
		}
		g.leaveUserLocked(old.Subject.User)
	}
	if old.Record.Name == next.Record.Name {
		e.row = next
	} else {
		i, _ := g.searchLocked(old.Record.Name)
		g.byName = slices.Delete(g.byName, i, i+1)
		g.keepLocked(old)
		e.row = next
		g.insertLocked(e)
	}
	return !same(old, next), nil
}

// same reports whether two rows of an endpoint differ in nothing but the record's time, which is not worth a write to
// flash.
func same(a, b *row) bool {
	x, y := a.Record, b.Record
	x.Time, y.Time = 0, 0
	s, t := a.Subject, b.Subject
	return reflect.DeepEqual(x, y) && s.User == t.User && s.Admitted.Equal(t.Admitted) &&
		s.NotBefore.Equal(t.NotBefore) && s.NotAfter.Equal(t.NotAfter)
}

func (g *registry) insertLocked(e *endpoint) {
	i, _ := g.searchLocked(e.Record.Name)
	g.byName = slices.Insert(g.byName, i, e)
}

func (g *registry) searchLocked(name string) (int, bool) {
	return slices.BinarySearchFunc(g.byName, name, func(e *endpoint, name string) int {
		return strings.Compare(e.Record.Name, name)
	})
}

func takenError(by *endpoint) *answer.Error {
	seen := "online now"
	if by.session == nil {
		seen = "last seen " + date(by.seen*1000)
	}
	return answer.Errorf(answer.Conflict, "endpoint name %s is taken by endpoint %s of user %s (%s)",
		by.Record.Name, by.Subject.ID, by.Subject.User, seen)
}

func (g *registry) joinUserLocked(user string) error {
	if g.byUser[user] >= g.limits.EndpointsPerUser {
		return limited("user %s has %d endpoints, and this hub takes no more of one user", user, g.byUser[user])
	}
	g.byUser[user]++
	return nil
}

func (g *registry) leaveUserLocked(user string) {
	if g.byUser[user]--; g.byUser[user] <= 0 {
		delete(g.byUser, user)
	}
}

// remove takes endpoints out of the directory and ends their sessions. Their names are kept for their users if keep says so. The
// caller saves that.
func (g *registry) remove(keep bool, which func(*row) bool) (gone []identity.ID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byName = slices.DeleteFunc(g.byName, func(e *endpoint) bool {
		if !which(e.row) {
			return false
		}
		gone = append(gone, e.Subject.ID)
		delete(g.byID, e.Subject.ID)
		g.leaveUserLocked(e.Subject.User)
		if keep {
			g.keepLocked(e.row)
		}
		if e.session != nil {
			e.session.end()
			e.session = nil
			g.online.Add(-1)
		}
		return true
	})
	return gone
}

// rows returns the rows of endpoints; nil for those that are not there.
func (g *registry) rows(ids map[identity.ID]struct{}) map[identity.ID]*row {
	g.mu.RLock()
	defer g.mu.RUnlock()
	rows := make(map[identity.ID]*row, len(ids))
	for id := range ids {
		rows[id] = nil
		if e := g.byID[id]; e != nil {
			rows[id] = e.row
		}
	}
	return rows
}

// attach makes a session that of its endpoint. A session that the endpoint has already is ended: only the same device
// has the key, so it has come back before its old connection was found dead.
func (g *registry) attach(s *session) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.byID[s.peer.ID]
	if e == nil {
		return answer.Errorf(answer.Conflict, "endpoint %s has no record in the directory yet", s.peer.ID)
	}
	if e.session != nil {
		e.session.end()
	} else {
		g.online.Add(1)
	}
	e.session, e.address = s, s.peer.addr.String()
	return nil
}

// detach is the end of a session.
func (g *registry) detach(s *session) {
	s.end()
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.byID[s.peer.ID]; e != nil && e.session == s {
		e.session, e.seen = nil, time.Now().Unix()
		g.online.Add(-1)
	}
}

// find returns the name and the session of an endpoint. Where it is offline, there is a name and a refusal; where there
// is no such endpoint, a refusal.
func (g *registry) find(id identity.ID) (name string, s *session, err error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.byID[id]
	if e == nil {
		return "", nil, answer.Errorf(answer.NotFound, "there is no endpoint %s", id)
	}
	if e.session == nil {
		return e.Record.Name, nil, answer.Errorf(answer.Unavailable, "endpoint %s is offline", e.Record.Name)
	}
	return e.Record.Name, e.session, nil
}

// signer returns the session of an endpoint that holds the CA key; nil if none is online.
func (g *registry) signer() *session {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, e := range g.byName {
		if e.session != nil && e.Record.Signer && e.Subject.User == rootUser {
			return e.session
		}
	}
	return nil
}

// vacant reports whether an endpoint of a user may have a name: no other has it, and it is not kept for another user.
func (g *registry) vacant(name string, id identity.ID, user string) error {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if err := g.takenLocked(name, id); err != nil {
		return err
	}
	return g.mayHaveLocked(name, user)
}

// check tells a holder of the CA key, which alone learns who wants to join, what is known of a name.
func (g *registry) check(name string, id identity.ID) *tunnel.NameCheck {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return &tunnel.NameCheck{Taken: g.takenLocked(name, id), KeptFor: g.keptForLocked(name)}
}

func (g *registry) takenLocked(name string, id identity.ID) *answer.Error {
	if i, taken := g.searchLocked(name); taken && g.byName[i].Subject.ID != id {
		return takenError(g.byName[i])
	}
	return nil
}

// each calls f for every session. f must not block.
func (g *registry) each(f func(*session)) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	for _, e := range g.byName {
		if e.session != nil {
			f(e.session)
		}
	}
}

// name returns the name of an endpoint, or its ID if it has none.
func (g *registry) name(id identity.ID) string {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if e := g.byID[id]; e != nil {
		return e.Record.Name
	}
	return string(id)
}

func (g *registry) size() int {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return len(g.byID)
}
