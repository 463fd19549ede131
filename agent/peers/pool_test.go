package peers

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/flow"
)

// fakeSession is a session of which a test says how it is.
type fakeSession struct {
	flow.Session // what a test does not expect to be called
	flows        int
	since        time.Time // it has that many
	loaded       bool
	err          error
	over         bool
	hangs        bool
	closed       chan struct{}
}

func (s *fakeSession) Load() (int, bool)            { return s.flows, s.loaded }
func (s *fakeSession) Err() error                   { return s.err }
func (s *fakeSession) IdleSince() (time.Time, bool) { return s.since, s.flows == 0 }

func (s *fakeSession) Close() error { close(s.closed); return nil }

func (s *fakeSession) Done() <-chan struct{} {
	done := make(chan struct{})
	if s.over {
		close(done)
	}
	return done
}

func TestAFlowGetsTheSessionWithTheFewestThatIsNotLoaded(t *testing.T) {
	full := errors.New("no free stream")
	for name, tt := range map[string]struct {
		sessions []*fakeSession
		best     int // -1: none
		loaded   bool
		left     int
	}{
		"none":                        {nil, -1, false, 0},
		"the one":                     {[]*fakeSession{{flows: 9}}, 0, false, 1},
		"the fewest flows":            {[]*fakeSession{{flows: 2}, {flows: 1}, {flows: 3}}, 1, false, 3},
		"rather many than loaded":     {[]*fakeSession{{flows: 1, loaded: true}, {flows: 100}}, 1, false, 2},
		"the better of loaded ones":   {[]*fakeSession{{flows: 5, loaded: true}, {flows: 2, loaded: true}}, 1, true, 2},
		"not a full one":              {[]*fakeSession{{err: full}, {flows: 7}}, 1, false, 2},
		"none if all are full":        {[]*fakeSession{{err: full}, {err: full}}, -1, false, 2},
		"those that are over are let": {[]*fakeSession{{over: true}, {flows: 7}, {over: true}}, 1, false, 1},
		"not one that hangs":          {[]*fakeSession{{hangs: true}, {flows: 7, loaded: true}}, 1, true, 2},
		"none if all hang":            {[]*fakeSession{{hangs: true}}, -1, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			ps := &peerSessions{}
			for _, s := range tt.sessions {
				ps.sessions = append(ps.sessions, &outSession{Session: s})
			}
			all := slices.Clone(ps.sessions)
			best, loaded := ps.pick(func(c *outSession) bool { return c.Session.(*fakeSession).hangs })
			var want *outSession
			if tt.best >= 0 {
				want = all[tt.best]
			}
			if best != want || loaded != tt.loaded || len(ps.sessions) != tt.left {
				t.Errorf("got %v, loaded %v, of %d that are left", best, loaded, len(ps.sessions))
			}
		})
	}
}

func TestAtRestASessionIsClosedAtOnceOnWhichThePeerTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving, now := errors.New("it is closing"), time.Now()
		for name, tt := range map[string]struct {
			session fakeSession
			closed  bool
		}{
			"it takes no more":               {fakeSession{err: leaving, since: now}, true},
			"it takes no more, a flow is on": {fakeSession{err: leaving, since: now, flows: 1}, false},
			"it rests for a while":           {fakeSession{since: now.Add(-maxIdle / 2)}, false},
			"it rests for long":              {fakeSession{since: now.Add(-2 * maxIdle)}, true},
		} {
			s := tt.session
			s.closed = make(chan struct{})
			p := newPool(nil, func(*outSession) bool { return false })
			p.peers["peer"] = &peerSessions{sessions: []*outSession{{Session: &s}}}
			p.reap(now)
			synctest.Wait()
			select {
			case <-s.closed:
				if !tt.closed {
					t.Errorf("%s: it was closed", name)
				}
			default:
				if tt.closed {
					t.Errorf("%s: it is open", name)
				}
			}
			p.stop()
		}
	})
}
