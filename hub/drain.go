package hub

import (
	"time"

	"ztm/tunnel"
)

// How a hub ends. Where there is another one to go to:
//
//  1. It says so, to other hubs and to its agents: to these one after the other, over two thirds of
//     Config.Drain, so that they do not all arrive at another hub at once.
//  2. It makes no new paths. Those that stand go on.
//  3. It ends when all agents and paths have gone, and after Config.Drain at the latest.
//
// A hub that is alone ends its sessions at once, and waits a little for the paths.

// DefaultDrain is how long agents have to move to another hub.
const DefaultDrain = 30 * time.Second

// drain returns when the hub may close what is left.
func (s *server) drain() {
	if s.links.Linked() == 0 {
		s.sessions.each(func(session *session) { session.end() })
		atMost(s.relay.Drain(), s.config.drain)
		return
	}
	s.log.Info("the hub drains: agents move to other hubs", "time", s.config.Drain)
	until := time.Now().Add(s.config.Drain)
	s.links.Drain()
	ended := s.relay.Drain()
	for _, session := range s.sendAway(until) {
		atMost(session.ended, time.Until(until))
	}
	atMost(ended, time.Until(until))
	s.sessions.each(func(session *session) { session.end() })
}

// sendAway tells all agents to move, one after the other.
func (s *server) sendAway(until time.Time) (all []*session) {
	s.sessions.each(func(session *session) { all = append(all, session) })
	step := min(s.config.Drain*2/3/time.Duration(max(len(all), 1)), time.Second)
	for _, session := range all {
		session.send(&tunnel.Event{Type: tunnel.EventMove, Within: max(time.Until(until), 0).Milliseconds()})
		atMost(session.ended, step)
	}
	return all
}

// atMost waits for ended, or for d.
func atMost(ended <-chan struct{}, d time.Duration) {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-ended:
	case <-t.C:
	}
}
