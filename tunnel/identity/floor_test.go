package identity

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestVerifierNeverGoesBack(t *testing.T) {
	m := newMesh(t)
	zero := m.trust
	var all []*Trust
	for i := range 8 {
		m.evict(t, "bob", start.Add(time.Duration(i)*day))
		all = append(all, m.trust)
	}
	v := NewVerifier(zero, NewClock(start))
	v.SetOwn(m.subject(t, m.hub(t, start)))
	var wg sync.WaitGroup
	for _, trust := range slices.Backward(all) {
		wg.Go(func() { v.Set(trust) })
	}
	wg.Wait()
	v.Set(zero)
	if got := v.Trust(); got != m.trust {
		t.Errorf("version %d is in force, want %d", got.Version(), m.trust.Version())
	}
	if now := v.Clock().Now(); now.Before(m.trust.Issued()) {
		t.Errorf("the clock says %v and the list was issued %v", now, m.trust.Issued())
	}
}

func TestClockBehindTheMeshDoesNotLockOut(t *testing.T) {
	m := newMesh(t)
	m.evict(t, "carol", start)
	hub, bob := m.hub(t, start), m.member(t, "bob", start)
	v := NewVerifier(m.trust, NewClock(time.Now().Add(day))) // yesterday it was later than it is today
	v.SetOwn(m.subject(t, bob))
	client, server := handshake(t, dial(v, bob.tls()), serve(v, hub.tls()))
	if client.err != nil || server.err != nil {
		t.Errorf("client %v, server %v", client.err, server.err)
	}
}

func TestListOfTheFutureDoesNotMoveAClockThatRuns(t *testing.T) {
	for name, tt := range map[string]struct {
		age     time.Duration // of the device, made in the year 2000, when the bubble begins
		floor   time.Time
		believe bool
	}{
		"a device that has a clock":              {27 * year, bubble, false},
		"a device that has a clock and no floor": {27 * year, time.Time{}, false},
		"a device whose clock has stopped":       {27 * year, bubble.Add(60 * year), true},
		"a device without clock and floor":       {0, time.Time{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				<-time.After(tt.age)
				m := newMesh(t) // of the year 2100
				m.evict(t, "bob", start)
				v := NewVerifier(m.trust, NewClock(tt.floor))
				v.SetOwn(Subject{NotAfter: start.Add(year)})
				if got := !v.Clock().Now().Before(start); got != tt.believe {
					t.Errorf("it says %v", v.Clock().Now())
				}
			})
		})
	}
}

func TestListFromAfterOnesOwnCertificateDoesNotMoveTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in the year 2000: a device without a clock
		m := newMesh(t)
		bob := m.subject(t, m.member(t, "bob", start))
		late := must(m.trust.Evict(m.ca, "carol", bob.NotAfter.Add(day)))(t) // by a clock that was ahead
		v := NewVerifier(m.trust, NewClock(start))
		v.SetOwn(bob)
		v.Set(late)
		if now := v.Clock().Now(); !now.Equal(start) {
			t.Errorf("the clock says %v, and the certificate is good until %v", now, bob.NotAfter)
		}
	})
}

func TestAPeersCertificateMovesTheClockOfADeviceThatHasNone(t *testing.T) {
	for name, tt := range map[string]struct {
		age     time.Duration // of the device, made in the year 2000, when the bubble begins
		floor   time.Time
		signed  time.Duration // when the peer's certificate was, after one's own
		own     bool          // the peer is the device itself
		rotated bool          // the mesh has another CA since
		good    bool          // the peer is let in, and the clock is not before its certificate was signed
	}{
		"a certificate of later":                 {floor: start, signed: 60 * day, good: true},
		"one that is good as it is":              {floor: start, signed: day / 2, good: true},
		"one of before":                          {floor: start.Add(60 * day), signed: day, good: true},
		"one of the CA before":                   {floor: start, signed: 60 * day, rotated: true},
		"one of after one's own end":             {floor: start, signed: 400 * day},
		"one's own, of later":                    {floor: start, signed: 60 * day, own: true},
		"a device that has a clock and no floor": {age: 27 * year, signed: 60 * day},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				<-time.After(tt.age)
				m := newMesh(t)
				self := m.member(t, "bob", start)
				own := m.subject(t, self)
				peer := m.member(t, "carol", start.Add(tt.signed))
				if tt.own {
					peer = self
					peer.der = must(m.ca.SignMember(self.public(), "bob", start, start.Add(tt.signed)))(t)
				}
				if tt.rotated {
					m.trust = must(m.trust.Rotate(m.ca, must(m.ca.Successor(start))(t), start.Add(30*day), start))(t)
				}
				v := NewVerifier(m.trust, NewClock(tt.floor))
				v.SetOwn(own)
				before := v.Clock().Now()
				_, _, err := v.Record(must(SignRecord(Record{ID: peer.id, Name: "carol", Certificate: peer.der}, peer.key))(t))
				want := before
				if at := start.Add(tt.signed); tt.good && at.After(before) {
					want = at
				}
				if now := v.Clock().Now(); (err == nil) != tt.good || !now.Equal(want) {
					t.Errorf("the clock says %v, want %v; the peer: %v", now, want, err)
				}
			})
		})
	}
}

func TestFloorNeedsTwoCertificatesThatAreGoodByIt(t *testing.T) {
	subject := func(from, until time.Duration) Subject {
		return Subject{NotBefore: start.Add(from), NotAfter: start.Add(until)}
	}
	old, late := subject(-300*day, 65*day), subject(-10*day, 355*day)
	for name, tt := range map[string]struct {
		now       time.Time
		own, peer Subject
		want      time.Time // zero: none
	}{
		"a clock that is right":                  {start.Add(-5 * day), old, late, start.Add(-5 * day)},
		"some time after the newest certificate": {start, old, late, start.Add(-10 * day).Add(maxFloorLead)},
		"whichever is the newest":                {start, late, old, start.Add(-10 * day).Add(maxFloorLead)},
		"a clock months ahead":                   {start.Add(60 * day), old, late, start.Add(-10 * day).Add(maxFloorLead)},
		"one's own certificate is expired":       {start.Add(70 * day), old, late, time.Time{}},
		"the peer's certificate is expired":      {start.Add(70 * day), late, old, time.Time{}},
		"a clock years ahead":                    {start.Add(10 * year), old, late, time.Time{}},
		"a clock behind":                         {start.Add(-200 * day), old, late, time.Time{}},
	} {
		floor, ok := Floor(tt.now, tt.own, tt.peer)
		if ok != !tt.want.IsZero() || !floor.Equal(tt.want) {
			t.Errorf("%s: %v, %v, want %v", name, floor, ok, tt.want)
		}
	}
}

func TestVerifierHasAFloorOnceAPeerWasGood(t *testing.T) {
	m := newMesh(t)
	own, bob := m.hub(t, start), m.member(t, "bob", start)
	v := NewVerifier(m.trust, NewClock(start))
	v.SetOwn(m.subject(t, own))
	none := func(when string) {
		t.Helper()
		if floor, ok := v.Floor(); ok {
			t.Errorf("%s: %v", when, floor)
		}
	}
	none("at the start")
	doc := must(SignRecord(Record{ID: own.id, Name: "self", Certificate: own.der}, own.key))(t)
	if _, _, err := v.Record(doc); err == nil {
		t.Error("a hub has a record")
	}
	none("after a certificate that was refused")
	client, server := handshake(t, dial(m.verifier(), bob.tls()), serve(v, own.tls()))
	if client.err != nil || server.err != nil {
		t.Fatalf("client %v, server %v", client.err, server.err)
	}
	if floor, ok := v.Floor(); !ok || floor.Before(start) {
		t.Errorf("after a member's handshake: %v, %v", floor, ok)
	}
}

func TestADeviceIsNoWitnessOfItsOwnTime(t *testing.T) {
	m := newMesh(t)
	bob := m.member(t, "bob", start)
	v := NewVerifier(m.trust, NewClock(start))
	v.SetOwn(m.subject(t, bob))
	doc := must(SignRecord(Record{ID: bob.id, Name: "self", Certificate: bob.der}, bob.key))(t)
	if _, _, err := v.Record(doc); err != nil {
		t.Fatal(err)
	}
	if floor, ok := v.Floor(); ok {
		t.Errorf("its own record gives a floor: %v", floor)
	}
}
