package control

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// What an agent knows of hubs:
//
//	addresses of the permit, or of `ztm mesh NAME set hubs`  ── the floor: always tried when nothing better is there
//	GET /v1/hubs at each hub, when it says that they changed ── records, each signed by its hub: learn -> kept on disk
//	the certificate that a hub shows                         ── which hub is at an address: claim
//
// A hub is known by its ID, so two addresses of one hub are one hub.

// place is a hub as it is known here, or an address at which no hub was met yet. It is guarded by
// Control.mu.
type place struct {
	key    string             // the hub's ID, or the address
	record identity.HubRecord // the newest that it signed; zero if none is known
	doc    []byte             // record, as it was signed
	found  []string           // addresses at which it was met; of an address, itself
	good   string             // the address at which it was met last

	drains bool // a hub says so
	absent bool // a hub says that it cannot be reached

	rtt    time.Duration // the least of the last minutes of a session; 0: not known
	seen   time.Time     // when that was measured, or was to be
	judged time.Duration // what rank goes by
	other  time.Time     // since when rtt is quite another than judged; zero: it is not

	failed bool          // the last attempt to reach it failed, or it was lost
	err    error         // why
	delay  time.Duration // upper end of the last wait
	next   time.Time     // it is not tried earlier
}

// id is the hub's; "" for an address.
func (p *place) id() identity.ID {
	if p.addressOnly() {
		return ""
	}
	return identity.ID(p.key)
}

// addressOnly reports whether the place is an address alone.
func (p *place) addressOnly() bool {
	return p.record.ID == "" && slices.Equal(p.found, []string{p.key})
}

// addresses are where the hub may be, the best guess first.
func (p *place) addresses() []string {
	all := slices.Concat(p.record.Names, p.found)
	moveUp(all, 0, p.good)
	return unique(all)
}

// Round trips that differ by less than both of these, or for less than long, move nobody.
const (
	otherBy    = 10 * time.Millisecond
	otherShare = 30 // percent
	otherFor   = 10 * time.Minute
)

// measured notes a round trip.
func (p *place) measured(rtt time.Duration, now time.Time) {
	if rtt <= 0 {
		return
	}
	p.rtt, p.seen = rtt, now
	apart := max(rtt-p.judged, p.judged-rtt)
	switch {
	case p.judged == 0:
		p.judged = rtt
	case apart <= otherBy || apart*100 <= otherShare*max(rtt, p.judged):
		p.other = time.Time{}
	case p.other.IsZero():
		p.other = now
	case now.Sub(p.other) >= otherFor:
		p.judged, p.other = rtt, time.Time{}
	}
}

// candidate is the place as rank sees it.
func (p *place) candidate() *candidate {
	return &candidate{
		place: p, key: p.key, zone: p.record.Zone, weight: p.record.Weight, rtt: p.judged,
		addressOnly: p.addressOnly(), draining: p.drains || p.record.Draining, failed: p.failed,
	}
}

// rankedLocked lists the places at which a hub may be, as rank orders them: hubs, and those addresses
// of the floor that are none of theirs. ideal takes a hub that failed for one that did not.
func (c *Control) rankedLocked(ideal bool) []*place {
	var all []*candidate
	for _, p := range c.placesLocked() {
		one := p.candidate()
		one.failed = one.failed && (!ideal || p.absent)
		all = append(all, one)
	}
	var out []*place
	for _, one := range rank(string(c.Self), all) {
		out = append(out, one.place)
	}
	return out
}

// placesLocked brings the places up to date with the floor, and lists them.
func (c *Control) placesLocked() (out []*place) {
	floor, met := c.Hubs(), map[string]bool{}
	for key, p := range c.places {
		switch {
		case !p.addressOnly():
			for _, a := range p.addresses() {
				met[a] = met[a] || !errors.Is(p.err, identity.ErrWrongID) // or another hub is there now
			}
		case !slices.Contains(floor, key) && !c.triedLocked(p):
			delete(c.places, key)
		}
	}
	for _, a := range floor {
		if !met[a] && c.places[a] == nil {
			c.places[a] = &place{key: a, found: []string{a}}
		}
	}
	for key, p := range c.places {
		switch {
		case !p.addressOnly():
			out = append(out, p)
		case !met[key]:
			out = append(out, p)
		case !c.triedLocked(p):
			delete(c.places, key)
		}
	}
	return out
}

// hubLocked is the place of a hub that was met at an address.
func (c *Control) hubLocked(id identity.ID, address string) *place {
	p := c.places[string(id)]
	if p == nil {
		p = &place{key: string(id)}
		c.places[p.key] = p
	}
	if !slices.Contains(p.found, address) && !slices.Contains(p.record.Names, address) {
		p.found = append(p.found, address)
	}
	p.good = address
	return p
}

// forgetLocked forgets a hub of which nothing is known but where it was met, when there is no session
// with it any longer: it may be another hub that is met there next.
func (c *Control) forgetLocked(p *place) {
	if p.record.ID != "" || p.addressOnly() || c.places[p.key] != p {
		return
	}
	delete(c.places, p.key)
	for _, a := range p.found {
		c.places[a] = &place{key: a, found: []string{a}, failed: p.failed, err: p.err, delay: p.delay, next: p.next}
	}
}

// fetchHubs asks a hub which hubs there are.
func (c *Control) fetchHubs(s *tunnel.Session) {
	var answer tunnel.Hubs
	if err := s.Call(c.Life, http.MethodGet, tunnel.PathHubs, nil, nil, &answer); err != nil {
		c.Log.Debug("the hub does not say which hubs there are", "err", err)
		return
	}
	c.learn(answer.Hubs)
}

// learn takes what a hub says of hubs: of each what it signed itself, and as a hint what the others
// see of it.
func (c *Control) learn(list []tunnel.HubEntry) {
	told := map[string]bool{}
	changed := false
	for _, e := range list[:min(len(list), tunnel.MaxHubs)] {
		r, _, err := c.Verifier.HubRecord(e.Record)
		if err != nil {
			c.PeerLog.Warn("hub record", "what a hub says of another was refused", "err", err)
			continue
		}
		told[string(r.ID)] = true
		changed = c.takeRecord(r, e.Record) || changed
		c.mu.Lock()
		if p := c.places[string(r.ID)]; p != nil {
			p.drains, p.absent = e.Draining, !e.Online && !e.Self
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	for key, p := range c.places {
		// Nobody knows it, and it cannot be reached: it is gone.
		if p.record.ID != "" && !told[key] && p.failed && !c.triedLocked(p) {
			delete(c.places, key)
			changed = true
		}
	}
	docs := c.docsLocked()
	c.mu.Unlock()
	if changed {
		c.Keep(docs)
	}
	c.Wake()
}

// takeRecord takes a verified record of a hub, and reports whether it says something that is worth
// keeping.
func (c *Control) takeRecord(r identity.HubRecord, doc []byte) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.places[string(r.ID)]
	switch {
	case p == nil && len(c.places) >= 2*tunnel.MaxHubs:
		return false
	case p == nil:
		p = &place{key: string(r.ID)}
		c.places[p.key] = p
	case p.record.Time >= r.Time && p.record.ID != "":
		return false
	}
	old := p.record
	p.record, p.doc = r, doc
	return old.ID == "" || !slices.Equal(old.Names, r.Names) || old.Zone != r.Zone || old.Weight != r.Weight ||
		!bytes.Equal(old.Certificate, r.Certificate)
}

// docsLocked are the signed records of all hubs.
func (c *Control) docsLocked() (docs [][]byte) {
	for _, p := range c.places {
		if p.doc != nil {
			docs = append(docs, p.doc)
		}
	}
	slices.SortFunc(docs, bytes.Compare)
	return docs
}

// recall takes the records that were kept. Those of hubs whose certificates are no longer good are
// let.
func (c *Control) recall(docs [][]byte) {
	for _, doc := range docs {
		if r, _, err := c.Verifier.HubRecord(doc); err == nil {
			c.takeRecord(r, doc)
		}
	}
}

// Repair has the floor looked at again, and forgets what hubs have said: a person has given
// addresses that are better.
func (c *Control) Repair() {
	c.mu.Lock()
	for key, p := range c.places {
		if c.triedLocked(p) {
			p.failed, p.next = false, time.Time{}
		} else {
			delete(c.places, key)
		}
	}
	c.mu.Unlock()
	c.Wake()
}

// Addresses lists where to look for hubs: where a session stands first, then those that are known,
// in the order in which this endpoint wants them.
func (c *Control) Addresses() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, l := range c.readyLocked() {
		out = append(out, l.session.Address())
	}
	floor := c.Hubs()
	if len(c.places) == 0 || c.Self == "" {
		return floor
	}
	for _, p := range c.rankedLocked(false) {
		out = append(out, p.addresses()...)
	}
	return unique(append(out, floor...))
}

// unique drops what was there before.
func unique(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// Bootstraps are the addresses for a new permit: those of all hubs that are known, one of each hub
// before the second of any, and the hubs in an order of its own for each permit. Who joins with it
// asks the first one first.
func (c *Control) Bootstraps() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var of [][]string
	for _, p := range c.placesLocked() {
		names := p.record.Names
		if len(names) == 0 {
			names = p.found
		}
		of = append(of, names)
	}
	if len(of) < 2 {
		return slices.Clone(c.Hubs())
	}
	rand.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	var out []string
	for i := range maxBootstraps {
		for _, names := range of {
			out = append(out, names[min(i, len(names)-1)])
		}
	}
	out = unique(out)
	return out[:min(len(out), maxBootstraps)]
}

// maxBootstraps is how many addresses go into a permit.
const maxBootstraps = 16

// Hub is a hub as this endpoint knows it.
type Hub struct {
	ID        identity.ID // "": an address at which none was met yet
	Addresses []string    // the best guess first
	Record    identity.HubRecord
	RTT       time.Duration // 0: not known
	Session   *tunnel.Session
	Suspect   bool
	Draining  bool
	Failed    bool // the last attempt to reach it failed
}

// Known lists the hubs that this endpoint knows, in the order in which it wants them.
func (c *Control) Known() (out []Hub) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.rankedLocked(true) {
		one := p.candidate()
		h := Hub{ID: p.id(), Addresses: p.addresses(), Record: p.record, RTT: p.rtt, Draining: one.draining, Failed: p.failed}
		for _, l := range c.readyLocked() {
			if l.place == p {
				h.Session, h.Suspect, h.Draining = l.session, l.suspicion.Suspect(), h.Draining || !l.leave.IsZero()
			}
		}
		out = append(out, h)
	}
	return out
}

// Measure asks a hub that there is no session with how it is.
func (c *Control) Measure(ctx context.Context, h Hub) (status tunnel.HubStatus, address string, rtt time.Duration, err error) {
	s, hub, err := c.dialOne(ctx, h.ID, h.Addresses)
	if err != nil {
		return status, "", 0, err
	}
	defer s.Close()
	began := time.Now()
	err = s.Call(ctx, http.MethodGet, tunnel.PathHub, nil, nil, &status)
	rtt = time.Since(began)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.places[string(hub.ID)]; p != nil && err == nil {
		p.measured(rtt, time.Now())
	}
	return status, s.Address(), rtt, err
}
