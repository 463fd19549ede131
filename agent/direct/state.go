package direct

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
)

// Cause says why there is no direct path. It is shown to people.
type Cause string

// The causes.
const (
	TurnedOff   Cause = "turned off at this endpoint"
	Unsupported Cause = "the other side does not take part"
	Busy        Cause = "the other side has too many attempts in progress"
	NoLeg       Cause = "the way to the hub is no connection of its own"
	NoPlace     Cause = "the two have no address at which they could meet"
	NoWay       Cause = "no attempt got through"
	NoPeer      Cause = "another device answered"
	Narrow      Cause = "the way does not pass what a connection needs"
	Broke       Cause = "the direct way broke"
	Faulty      Cause = "the attempt failed"
)

// words are the causes for counters.
var words = map[Cause]string{
	TurnedOff: "off", Unsupported: "unsupported", Busy: "busy", NoLeg: "no_leg", NoPlace: "no_place",
	NoWay: "no_way", NoPeer: "no_peer", Narrow: "narrow", Broke: "broke", Faulty: "failed",
}

// failure is a round that came to nothing.
type failure struct {
	cause Cause
	err   error // more of it, for the log; nil: there is no more
}

func (f *failure) Error() string {
	if f.err == nil {
		return string(f.cause)
	}
	return fmt.Sprintf("%s: %v", f.cause, f.err)
}

func (f *failure) Unwrap() error { return f.err }

// CauseOf returns why a round failed; "" if it did not.
func CauseOf(err error) Cause {
	if err == nil {
		return ""
	}
	if f := new(failure); errors.As(err, &f) {
		return f.cause
	}
	return Faulty
}

// state is what is known of the way to one peer from the network where this device is.
//
//	Begin -> busy -> End: up ----> Ended: rested, or broke -> later
//	                 └-- failed -> later
type state struct {
	round    chan struct{} // closed when the round in progress is over; nil: there is none
	up       time.Time     // when it succeeded last
	failures int           // in a row
	later    time.Time     // no round begins before
	cause    Cause         // of the last failure; "" after a success
}

// pauses are how long it is until the next round after so many failures in a row.
var pauses = []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

// comeback is how long it is until the next round after a path broke that had proven itself.
const comeback = 5 * time.Second

// proven is how long a direct path lasts until its end is no failure of it.
const proven = 10 * time.Minute

// Begin reports whether a round with a peer is to begin now. If so, End is called when it is over.
func (d *Direct) Begin(peer identity.ID) bool {
	if d.Mode() == Off {
		return false
	}
	now := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.locateLocked(now)
	s := d.stateLocked(peer)
	if s.round != nil || now.Before(s.later) || !d.running.Acquire(struct{}{}, roundsAtOnce) {
		return false
	}
	s.round = make(chan struct{})
	return true
}

// Round is closed when the round in progress with a peer is over; nil if there is none.
func (d *Direct) Round(peer identity.ID) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.states[peer]; s != nil {
		return s.round
	}
	return nil
}

// Patience is how long a flow lasts until it is worth a direct path: nothing where one was had
// before.
func (d *Direct) Patience(peer identity.ID, usual time.Duration) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.states[peer]; s != nil && !s.up.IsZero() && s.cause == "" {
		return 0
	}
	return usual
}

// locateLocked looks in which network this device is, now and then: each flow that lasts comes here.
// What failed in another network says nothing.
func (d *Direct) locateLocked(now time.Time) {
	if now.Sub(d.located) < lookEvery {
		return
	}
	d.located = now
	addresses, err := d.Network.Addresses()
	if network := fmt.Sprint(addresses.Own); err == nil && network != d.network {
		d.network = network
		for _, s := range d.states {
			s.failures, s.later = 0, time.Time{}
		}
	}
}

// lookEvery is how often it is looked whether this device is still where a direct path began.
const lookEvery = 3 * time.Second

// Watch returns when done is closed, or calls gone once when the address that a direct path begins
// at is no longer one of this device: it is in another network, and nothing comes any longer. Where
// no path is direct nothing is looked at.
func (d *Direct) Watch(from netip.Addr, done <-chan struct{}, gone func()) {
	if !d.has(from) {
		<-done
		return
	}
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			if !d.has(from) {
				gone()
				<-done
				return
			}
		}
	}
}

// has reports whether an address is this device's. If that cannot be found out, it is.
func (d *Direct) has(a netip.Addr) bool {
	here, err := d.Network.Addresses()
	return err != nil || slices.ContainsFunc(here.Own, func(p netip.Prefix) bool { return p.Addr() == a })
}

// stateLocked returns the state of a peer, in place of any other's that is at rest if there are
// many.
func (d *Direct) stateLocked(peer identity.ID) *state {
	s := d.states[peer]
	if s != nil {
		return s
	}
	if len(d.states) >= remembered {
		for id, old := range d.states {
			if old.round == nil {
				delete(d.states, id)
				break
			}
		}
	}
	s = &state{}
	d.states[peer] = s
	return s
}

// End says how a round went that was begun: err is nil where it made a direct path of a kind.
func (d *Direct) End(peer identity.ID, kind direct.Kind, err error) {
	d.running.Release(struct{}{})
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stateLocked(peer)
	close(s.round)
	s.round = nil
	if err == nil {
		s.up, s.cause = time.Now(), ""
		d.counts[string(kind)]++
		return
	}
	d.counts[words[CauseOf(err)]]++
	s.failedLocked(CauseOf(err))
}

func (s *state) failedLocked(cause Cause) {
	pause := pauses[min(s.failures, len(pauses)-1)]
	s.failures++
	s.later = time.Now().Add(pause - pause/5 + rand.N(pause*2/5))
	s.cause = cause
}

// Ended says that a direct path with a peer is over; broke, that it was not at rest. A path that
// breaks soon is tried less and less often, like one that never came.
func (d *Direct) Ended(peer identity.ID, broke bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.stateLocked(peer)
	if time.Since(s.up) >= proven {
		s.failures = 0
	}
	if broke {
		d.counts[words[Broke]]++
		again := s.failures == 0
		if s.failedLocked(Broke); again {
			s.later = time.Now().Add(comeback) // the peer may have another network by now
		}
	}
}

// Why says why there is no direct path to a peer; "" if nothing has failed.
func (d *Direct) Why(peer identity.ID) Cause {
	if d.Mode() == Off {
		return TurnedOff
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.states[peer]; s != nil {
		return s.cause
	}
	return ""
}

// Forget has the next flow begin a round, whatever failed before: the mode was changed.
func (d *Direct) Forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.states {
		s.failures, s.later, s.cause = 0, time.Time{}, ""
	}
}

// Metrics adds how many rounds this device began, by result: a kind of path, or why there is none.
func (d *Direct) Metrics(w *metric.Writer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, result := range slices.Sorted(maps.Keys(d.counts)) {
		w.Counter("ztm_mesh_direct_rounds_total", "Attempts to open a direct path, by result.", d.counts[result], "result", result)
	}
}
