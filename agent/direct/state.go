package direct

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"ztm/tunnel/direct"
	"ztm/tunnel/identity"
	"ztm/tunnel/metric"
)

// Cause says why there is no direct path. It is shown to people.
type Cause string

// The causes.
const (
	TurnedOff   Cause = "turned off for this endpoint"
	Unsupported Cause = "the other side does not take part"
	Busy        Cause = "the other side has too many attempts in progress"
	NoLeg       Cause = "the way to the hub is no connection of its own"
	NoPlace     Cause = "the two have no address at which they could meet"
	NoWay       Cause = "no attempt got through"
	NoPeer      Cause = "another device answered"
	Narrow      Cause = "the way does not pass what a connection needs"
	Broke       Cause = "the direct way broke"
	Faulty      Cause = "the attempt failed"
	Trying      Cause = "an attempt is in progress" // it is no failure, and not counted
)

// words are the causes as counters name them.
var words = [...]struct {
	cause Cause
	word  string
}{
	{TurnedOff, "off"}, {Unsupported, "unsupported"}, {Busy, "busy"}, {NoLeg, "no_leg"}, {NoPlace, "no_place"},
	{NoWay, "no_way"}, {NoPeer, "no_peer"}, {Narrow, "narrow"}, {Broke, "broke"}, {Faulty, "failed"},
}

func (c Cause) word() string {
	for _, w := range words {
		if w.cause == c {
			return w.word
		}
	}
	return string(c)
}

// Error implements error: a cause is why a round came to nothing.
func (c Cause) Error() string { return string(c) }

// with is the cause with more of it, for the log.
func (c Cause) with(err error) error { return fmt.Errorf("%w: %w", c, err) }

// CauseOf returns why a round failed; "" if it did not.
func CauseOf(err error) (c Cause) {
	if err != nil && !errors.As(err, &c) {
		return Faulty
	}
	return c
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

// pauses are how long it is until the next round after so many failures in a row, a quarter more or less.
var pauses = []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute, time.Hour}

// comeback is how long it is until the next round after a path broke that had proven itself.
const comeback = 5 * time.Second

// proven is how long a direct path lasts until its end is no failure of it.
const proven = 10 * time.Minute

// Attempts are the rounds of one sort that this device begins: when, and how they went. It is safe for
// concurrent use.
type Attempts struct {
	config *Config
	name   string // of their counter
	help   string

	mu      sync.Mutex
	running int                    // rounds; guarded by mu
	states  map[identity.ID]*state // guarded by mu
	network string                 // own addresses; guarded by mu
	located time.Time              // when those were looked at last; guarded by mu
	counts  map[string]int64       // rounds, by result; guarded by mu
}

func newAttempts(c *Config, name, help string) *Attempts {
	return &Attempts{config: c, name: name, help: help, states: map[identity.ID]*state{}, counts: map[string]int64{}}
}

// Begin reports whether a round with a peer is to begin now. If so, End is called when it is over.
func (a *Attempts) Begin(peer identity.ID) bool {
	if a.config.Mode() == Off {
		return false
	}
	now := time.Now()
	a.mu.Lock()
	a.locateLocked(now)
	s := a.stateLocked(peer)
	begins := s.round == nil && !now.Before(s.later) && a.running < roundsAtOnce
	if begins {
		s.round = make(chan struct{})
		a.running++
	}
	a.mu.Unlock()
	return begins
}

// of is what is known of the way to a peer.
func (a *Attempts) of(peer identity.ID) (s state) {
	a.mu.Lock()
	if known := a.states[peer]; known != nil {
		s = *known
	}
	a.mu.Unlock()
	return s
}

// Round is closed when the round in progress with a peer is over; nil if there is none.
func (a *Attempts) Round(peer identity.ID) <-chan struct{} { return a.of(peer).round }

// Delay is how long a flow lasts until it is worth a direct path: nothing where one was had
// before. Where one just broke, it is not before that may be asked for.
func (a *Attempts) Delay(peer identity.ID, usual time.Duration) time.Duration {
	s := a.of(peer)
	if !s.up.IsZero() && s.cause == "" {
		return 0
	}
	if pause := time.Until(s.later); pause <= comeback {
		return max(usual, pause)
	}
	return usual
}

// locateLocked looks in which network this device is, now and then: each flow that lasts comes here.
// What failed in another network says nothing.
func (a *Attempts) locateLocked(now time.Time) {
	if now.Sub(a.located) < lookEvery {
		return
	}
	a.located = now
	addresses, err := a.config.Network.Addresses()
	if network := fmt.Sprint(addresses.Own); err == nil && network != a.network {
		a.network = network
		for _, s := range a.states {
			s.failures, s.later = 0, time.Time{}
		}
	}
}

// lookEvery is how often it is looked whether this device is still where a session began.
const lookEvery = 3 * time.Second

// Watch returns when done is closed. It calls gone once when the address that a session begins at is no
// longer one of this device, which has others: it is in another network, and nothing comes any longer. One
// that has none may come back to where it was. Where there is no session nothing is looked at.
func (d *Direct) Watch(from netip.Addr, done <-chan struct{}, gone func()) {
	if !d.addresses(0).Has(from) { // it may have come this moment
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
			if here := d.addresses(lookEvery / 2); len(here.Own) > 0 && !here.Has(from) {
				gone()
				<-done
				return
			}
		}
	}
}

// addresses are those of this device, looked at no longer ago than old: many sessions ask at one time. They
// are none if they cannot be found out.
func (d *Direct) addresses(old time.Duration) direct.Interfaces {
	d.lookMu.Lock()
	defer d.lookMu.Unlock()
	if now := time.Now(); now.Sub(d.looked) >= old {
		d.here, _ = d.Network.Addresses()
		d.looked = now
	}
	return d.here
}

// stateLocked returns the state of a peer, in place of any other's that is at rest if there are
// many.
func (a *Attempts) stateLocked(peer identity.ID) *state {
	s := a.states[peer]
	if s != nil {
		return s
	}
	if len(a.states) >= remembered {
		for id, old := range a.states {
			if old.round == nil {
				delete(a.states, id)
				break
			}
		}
	}
	s = &state{}
	a.states[peer] = s
	return s
}

// End says how a round went that was begun: err is nil where it made a direct path of a kind.
func (a *Attempts) End(peer identity.ID, kind direct.Kind, err error) {
	a.mu.Lock()
	a.running--
	s := a.stateLocked(peer)
	close(s.round)
	s.round = nil
	if err == nil {
		s.up, s.cause = time.Now(), ""
		a.counts[string(kind)]++
	} else {
		a.failedLocked(s, CauseOf(err))
	}
	a.mu.Unlock()
}

// failedLocked counts a failure, after which there is none for a while.
func (a *Attempts) failedLocked(s *state, cause Cause) {
	a.counts[cause.word()]++
	half := pauses[min(s.failures, len(pauses)-1)] >> 1
	s.failures++
	s.later = time.Now().Add(half + half>>1 + rand.N(half))
	s.cause = cause
}

// Ended says that a direct path with a peer is over; broke, that it was not at rest. A path that
// breaks soon is tried less and less often, like one that never came.
func (a *Attempts) Ended(peer identity.ID, broke bool) {
	a.mu.Lock()
	s := a.stateLocked(peer)
	if time.Since(s.up) >= proven {
		s.failures = 0
	}
	if broke {
		again := s.failures == 0
		if a.failedLocked(s, Broke); again {
			s.later = time.Now().Add(comeback) // the peer may have another network by now
		}
	}
	a.mu.Unlock()
}

// Why says why there is no direct path to a peer; "" if nothing was tried.
func (a *Attempts) Why(peer identity.ID) Cause {
	if a.config.Mode() == Off {
		return TurnedOff
	}
	s := a.of(peer)
	if s.cause == "" && s.round != nil {
		return Trying
	}
	return s.cause
}

// Forget has the next flow begin a round, whatever failed before: the mode was changed.
func (a *Attempts) Forget() {
	a.mu.Lock()
	for _, s := range a.states {
		s.failures, s.later, s.cause = 0, time.Time{}, ""
	}
	a.mu.Unlock()
}

// Metrics adds how many rounds this device began, by result: a kind of path, or why there is none.
func (a *Attempts) Metrics(w *metric.Writer) {
	a.mu.Lock()
	for _, result := range slices.Sorted(maps.Keys(a.counts)) {
		w.Counter(a.name, a.help, a.counts[result], "result", result)
	}
	a.mu.Unlock()
}
