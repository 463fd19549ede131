package control

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// follow calls f with a membership that has one hub, whose trust list is of version 1, and with what of
// the hub's is compared with its own.
func follow(t *testing.T, f func(c *Control, l *link, compared <-chan tunnel.Event)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		compared := make(chan tunnel.Event, 3)
		c := New(Config{
			Life:     ctx,
			Verifier: identity.NewVerifier(identitytest.New(t, time.Now()).Trust, identity.NewClock()),
			Trust:    func(_ *tunnel.Session, e tunnel.Event) { compared <- e },
		})
		l := newLink(c, nil, time.Now())
		l.ready = true
		c.links = append(c.links, l)
		go l.followTrust(ctx) // ends with ctx
		l.newer <- tunnel.Event{Type: tunnel.EventTrust, Version: 1}
		<-compared
		f(c, l, compared)
	})
}

func TestAnOnlyHubGetsTheTrustListThatCameFromAPeer(t *testing.T) {
	follow(t, func(c *Control, _ *link, compared <-chan tunnel.Event) {
		c.TrustChanged()
		select {
		case e := <-compared:
			if e.Version != 1 {
				t.Errorf("compared with %+v", e)
			}
		case <-time.After(passAfter + time.Second):
			t.Error("it is not compared with the hub's")
		}
	})
}

func TestATrustListThatIsToBePassedOnHoldsUpNoNewerOneOfTheHub(t *testing.T) {
	follow(t, func(_ *Control, l *link, compared <-chan tunnel.Event) {
		began := time.Now()
		l.behind <- struct{}{}
		synctest.Wait() // it is to be passed on some time later
		l.newer <- tunnel.Event{Type: tunnel.EventTrust, Version: 2}
		for e := range compared {
			if e.Version == 2 {
				break
			}
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("an eviction waits %v for an older one to be passed on", waited)
		}
	})
}
