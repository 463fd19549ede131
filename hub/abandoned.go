package hub

import (
	"maps"
	"time"

	"ztm/tunnel/identity"
)

// A device that vanishes in the middle of a transfer leaves a path whose bytes no one reads. The
// kernel holds it for a quarter of an hour, and a slow reader looks the same to it. The control
// session tells the two apart: it finds a dead device within a minute. The hub cuts the paths of an
// endpoint that has had no control session for abandonedAfter. Paths from other hubs follow the links to those. An endpoint whose
// control session is on another hub has not vanished, and as long as a hub does not hear all others,
// it does not know.
const (
	abandonedAfter = time.Minute
	abandonedEvery = 15 * time.Second
)

// absences says since when endpoints that have connections have had no control session. Its owner
// is the goroutine of tidy.
type absences map[identity.ID]time.Time

// note takes the endpoints that have no control session now, and returns those that have had none
// for abandonedAfter.
func (a absences) note(now time.Time, absent map[identity.ID]struct{}) map[identity.ID]struct{} {
	for id := range a {
		if _, still := absent[id]; !still {
			delete(a, id)
		}
	}
	long := map[identity.ID]struct{}{}
	for id := range absent {
		since, known := a[id]
		if !known {
			a[id] = now
		} else if now.Sub(since) >= abandonedAfter {
			long[id] = struct{}{}
		}
	}
	return long
}

// absent returns the endpoints that have connections and no control session among them.
func (ps *peers) absent() map[identity.ID]struct{} {
	ps.mu.Lock()
	ids := map[identity.ID]struct{}{}
	for p := range ps.all {
		if p.Role == identity.RoleMember && len(ps.control[p.ID]) == 0 {
			ids[p.ID] = struct{}{}
		}
	}
	ps.mu.Unlock()
	return ids
}

// cutAbandoned cuts the connections of endpoints that have vanished.
func (s *server) cutAbandoned(a absences, now time.Time) {
	absent := s.peers.absent()
	complete := s.links.Complete()
	maps.DeleteFunc(absent, func(id identity.ID, _ struct{}) bool {
		return !complete || len(s.links.Where(id)) > 0
	})
	long := a.note(now, absent)
	if len(long) == 0 {
		return
	}
	s.peers.cut(func(p *peer) bool {
		_, gone := long[p.ID]
		return gone
	})
	s.log.Info("relayed paths of endpoints that have vanished are cut", "endpoints", len(long))
}
