package peers

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"ztm/agent/limits"
	"ztm/apps/appstest"
	"ztm/tunnel/handshake"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/inflight"
	"ztm/tunnel/limit"
	"ztm/tunnel/seal"
)

// Of two users who wait each gets a turn in rotation, see package handshake.
func TestHandshakesWaitForTheTurnsOfTheirUsers(t *testing.T) {
	const flood = 50
	m := identitytest.New(t, time.Now())
	v, cert := m.Verifier(), m.Member("bob").Cert
	var work inflight.Tracker
	p := New(Config{
		Limits: limits.Table{Sessions: 8, SessionsPeer: 3}, Work: &work, PeerLog: limit.NewLog(slog.New(slog.DiscardHandler)),
		Verifier: v, Certificate: func() tls.Certificate { return cert },
	})
	p.turns = handshake.NewSomeTurns[string](1)
	computing := p.turns.Of("whoever computes")
	computing.Acquire()
	ctx, cancel := context.WithCancel(t.Context())
	var ends sync.WaitGroup
	defer ends.Wait()
	defer cancel()
	defer computing.Release() // also where this fails: who waits for a turn looks at nothing else
	arrive := func(user string) {
		near, far := net.Pipe()
		ends.Go(func() { seal.Client(ctx, near, v, cert, "another endpoint") })
		ends.Go(func() { p.Accept(ctx, far, "", user, "") })
	}
	for range flood {
		arrive("eve")
	}
	appstest.Eventually(t, "the flood waits", func() bool { return p.turns.Waiting("eve") == flood })
	arrive("ann")
	appstest.Eventually(t, "another user waits", func() bool { return p.turns.Waiting("ann") == 1 })
	computing.Release()
	appstest.Eventually(t, "all had a turn", func() bool { return p.turns.Waiting("ann")+p.turns.Waiting("eve") == 0 })
}

func TestTrafficIsCountedOfSoManyPeers(t *testing.T) {
	p := New(Config{Limits: limits.Table{Sessions: 1}})
	for i := range limits.Totals + 10 {
		p.totalLocked(identity.IDOf([]byte{byte(i), byte(i >> 8)})).Sent += uint64(limits.Totals + 10 - i)
	}
	if len(p.totals) != limits.Totals {
		t.Errorf("%d peers are counted, want %d", len(p.totals), limits.Totals)
	}
	if p.totalLocked(identity.IDOf([]byte{0, 0})).Sent == 0 {
		t.Error("the one that moved most is forgotten")
	}
}
