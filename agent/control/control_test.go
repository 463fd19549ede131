package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/unixtime"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestRequestsDoNotWaitForAHubThatIsAwayForLong(t *testing.T) {
	lost := time.Unix(1e9, 0)
	for _, test := range []struct{ after, want time.Duration }{
		{0, sessionGap},
		{time.Second, sessionGap - time.Second},
		{sessionGap, sessionLull},
		{time.Hour, sessionLull},
		{-time.Hour, sessionGap}, // the clock was set back
	} {
		if got := sessionWait(lost, lost.Add(test.after)); got != test.want {
			t.Errorf("%v after the loss a request waits %v, want %v", test.after, got, test.want)
		}
	}
}

func TestAnAgentComesBackSoonWhereTheHubRestarts(t *testing.T) {
	refused := fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
	silent := errors.New("timeout")
	for _, tt := range []struct {
		last  time.Duration
		ready bool
		err   error
		want  time.Duration
	}{
		{0, false, silent, firstDelay},
		{maxDelay, true, silent, firstDelay},
		{firstDelay, false, silent, 2 * firstDelay},
		{maxDelay, false, silent, maxDelay},
		{3 * time.Second, false, refused, RefusedDelay},
		{maxDelay, false, refused, RefusedDelay},
	} {
		if got := nextDelay(tt.last, tt.ready, tt.err, maxDelay); got != tt.want {
			t.Errorf("after %v, ready %v, %v: up to %v, want %v", tt.last, tt.ready, tt.err, got, tt.want)
		}
	}
}

func TestARecordIsNewerThanTheOneBefore(t *testing.T) {
	var times []unixtime.Millis
	c := New(Config{Verifier: identity.NewVerifier(identitytest.New(t, time.Now()).Trust, identity.NewClock()), Record: func(at unixtime.Millis, _ []string) ([]byte, error) {
		times = append(times, at)
		return nil, nil
	}})
	for range 3 {
		c.record()
	}
	ahead := unixtime.MillisOf(time.Now().Add(time.Hour))
	if !c.raiseRecordTime(ahead) || c.raiseRecordTime(ahead-1) {
		t.Error("only a newer record of ours is gone on from")
	}
	c.record()
	if !slices.IsSorted(times) || len(slices.Compact(slices.Clone(times))) != 4 || times[3] != ahead+1 {
		t.Errorf("the records are of %v", times)
	}
}

// fakeRelay is a relay connection that only closes.
type fakeRelay struct{ closed chan struct{} }

func newRelay() *fakeRelay { return &fakeRelay{make(chan struct{})} }

func (r *fakeRelay) Close() error { close(r.closed); return nil }

func (r *fakeRelay) Connect(context.Context, identity.ID, string) (net.Conn, error) { return nil, nil }

func (r *fakeRelay) isClosed() bool {
	select {
	case <-r.closed:
		return true
	default:
		return false
	}
}

func TestAStandbyConnectionIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s standby
		hub, other := &tunnel.Session{}, &tunnel.Session{}
		r := newRelay()
		if !s.prepare(hub, func() (relay, error) { return r, nil }) || !s.ready(hub) || s.ready(other) {
			t.Fatal("it is not ready, or for another hub")
		}
		if s.prepare(hub, func() (relay, error) { t.Error("another one is opened"); return nil, errors.New("x") }) || s.take(other) != nil {
			t.Error("one is enough, and it is for one hub")
		}
		<-time.After(standbyLife + time.Second)
		synctest.Wait()
		if s.take(hub) != nil || !r.isClosed() {
			t.Error("it is kept for longer than the hub waits")
		}
	})
}

func TestAStandbyConnectionThatComesTooLateIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s standby
		hub := &tunnel.Session{}
		late, r := make(chan struct{}), newRelay()
		prepared := make(chan bool)
		go func() { prepared <- s.prepare(hub, func() (relay, error) { <-late; return r, nil }) }() // awaited below
		synctest.Wait()
		s.drop() // the certificate was replaced
		again := newRelay()
		if !s.prepare(hub, func() (relay, error) { return again, nil }) {
			t.Error("none is opened in its place")
		}
		close(late)
		if <-prepared || !r.isClosed() {
			t.Error("the one that came too late is kept")
		}
		if s.take(hub) != relay(again) || s.take(hub) != nil || again.isClosed() {
			t.Error("the newer one is not there, once")
		}
	})
}

func TestAStandbyConnectionThatFailsIsTriedAgain(t *testing.T) {
	var s standby
	hub := &tunnel.Session{}
	if s.prepare(hub, func() (relay, error) { return nil, errors.New("refused") }) || s.take(hub) != nil {
		t.Error("a connection that failed is ready")
	}
	r := newRelay()
	if !s.prepare(hub, func() (relay, error) { return r, nil }) || s.take(hub) != relay(r) {
		t.Error("it is not tried again")
	}
}
