package keep

import (
	"fmt"
	"testing"
	"time"

	"ztm/apps"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// silence adds holders of the CA key that take questions and do not answer.
func (m *mesh) silence(n int) {
	for i := range n {
		s := m.join(fmt.Sprint(i, "-silent"), "root")
		m.mu.Lock()
		s.silent = true
		m.mu.Unlock()
	}
}

// within fails the test if something does not hold after so long, in the time of a bubble.
func within(t *testing.T, d time.Duration, what string, is func() bool) {
	t.Helper()
	began := time.Now()
	eventually(t, what, is)
	if took := time.Since(began); took > d {
		t.Errorf("%s: that took %v, want at most %v", what, took, d)
	}
}

func TestHoldersThatAreSilentDelayNoCut(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		m.silence(3)
		office.lets("bob")
		root.propose(put(0, "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
		root.propose(func(s *signed.Source) error { delete(s.Groups, "ops"); return nil })
		within(t, 5*time.Second, "bob is let in no more", func() bool { return !office.lets("bob") })
	})
}

func TestAnEndIsLookedAtWhileHoldersAreSilent(t *testing.T) {
	bubble(t, func(t *testing.T, m *mesh) {
		root, office := m.join("root", "root"), m.join("office", "alice")
		office.lets("bob")
		end := time.Now().Add(time.Hour)
		root.propose(put(unixtime.Of(end), "bob"))
		eventually(t, "bob is let in", func() bool { return office.lets("bob") })
		m.silence(2)
		timer := time.NewTimer(time.Until(end) - time.Second)
		<-timer.C
		m.mu.Lock()
		root.online = false
		m.mu.Unlock()
		office.Names(apps.Peer{User: "carol"}, []string{"group:other"})
		m.mu.Lock()
		before := office.judged
		m.mu.Unlock()
		timer.Reset(6 * time.Second)
		<-timer.C
		m.mu.Lock()
		defer m.mu.Unlock()
		if office.judged == before {
			t.Error("nobody has looked at what runs")
		}
	})
}
