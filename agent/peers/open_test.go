package peers

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/direct"
	"ztm/tunnel/answer"
	meeting "ztm/tunnel/direct"
	"ztm/tunnel/flow"
	"ztm/tunnel/seal"
	"ztm/tunnel/suspicion"
)

func TestAFlowWhoseAnswerIsLateHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{}
		a, h, end := pairOf(t, app, "one", "two")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", false) // the request gets through, and the exit refuses another like it
		time.AfterFunc(suspicion.MaxSilence/2, letGo)
		if took, err := opens(t, a, h.to.Self); err != nil || took < suspicion.MaxSilence/2 {
			t.Errorf("after %v: %v", took, err)
		}
		if app.ran() != 2 {
			t.Errorf("of two flows %d ran", app.ran())
		}
	})
}

// A round opens a relayed path, on which nobody can be met here.
func TestASmallFlowThatLastsAsksForADirectPathUntilThereWasOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, h, end := pairOf(t, &counting{}, "one")
		defer end()
		h.mode = direct.Auto
		to := h.to.Self
		a.direct.Begin(to)
		a.direct.End(to, "", errors.New("nobody is there")) // so that it is no time for a round
		c, err := a.Open(t.Context(), Opening{To: to, Path: "count/x"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		rounds := func(looks int) int {
			before := h.paths()
			for range looks {
				<-time.After(reapEvery)
				a.follow()
				synctest.Wait()
			}
			return h.paths() - before
		}
		if n := rounds(2); n != 1 {
			t.Errorf("%d rounds within a minute", n)
		}
		s, err := a.pool.get(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		a.pool.add(to, a.newDirect(s.Session.(*seal.Session), meeting.Candidate{Kind: meeting.LAN}))
		a.follow()
		a.pool.retireDirect()
		if n := rounds(20); n != 0 {
			t.Errorf("%d rounds once there was a path", n)
		}
	})
}

func TestOfTwoAttemptsTheOneCountsThatTheExitHasTaken(t *testing.T) {
	refused := func(code answer.Code) attempted {
		return attempted{err: &flow.Refused{Reason: answer.Errorf(code, "no")}}
	}
	taken, lost := attempted{conn: new(flow.Conn)}, attempted{err: suspicion.Err}
	for _, tt := range []struct {
		name         string
		first, other attempted
		yields       bool
	}{
		{"the first is taken", taken, refused(answer.Conflict), false},
		{"the first is taken, and the other has no answer", taken, lost, false},
		{"the other is taken", lost, taken, true},
		{"the first came after the other", refused(answer.Conflict), taken, true},
		{"the first was refused, and then the other was taken", refused(answer.Unavailable), taken, true},
		{"the first is refused", refused(answer.Denied), lost, false},
	} {
		if got := tt.first.yields(tt.other); got != tt.yields {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

func (h *twoHubs) sleeps(away bool) {
	h.mu.Lock()
	h.away = away
	h.mu.Unlock()
}

func TestWithOneHubAPeerThatSleepsIsNotWaitedForAndKeepsItsSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{}
		a, h, end := pairOf(t, app, "one")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", true)
		h.sleeps(true)
		if took, err := opens(t, a, h.to.Self); answer.CodeOf(err) != answer.Timeout || took > 5*time.Second {
			t.Errorf("a flow, after %v: %v", took, err)
		}
		began := time.Now()
		_, err := a.Ping(t.Context(), h.to.Self)
		if took := time.Since(began); answer.CodeOf(err) != answer.Timeout || took > 5*time.Second {
			t.Errorf("a question, after %v: %v", took, err)
		}
		h.sleeps(false)
		letGo()
		if took, err := opens(t, a, h.to.Self); err != nil || took > time.Second || a.Warm(h.to.Self) != 1 {
			t.Errorf("when it wakes up, after %v and with %d sessions: %v", took, a.Warm(h.to.Self), err)
		}
	})
}
