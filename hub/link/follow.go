package link

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/unixtime"
)

// follower is one link: a session with another hub, while it lasts. Its events come one after the
// other; what they make necessary to fetch is fetched by another goroutine, so that a ping is heard
// meanwhile.
type follower struct {
	l     *Links
	h     *hub
	s     *tunnel.Session
	place place

	fresh map[identity.ID]*attachment // of a snapshot that is not complete; its owner is the goroutine of events

	// Guarded by Links.mu.
	theirs  identity.Head            // of their trust list
	compare bool                     // their trust list is not ours, or was not compared
	wanted  map[identity.ID]struct{} // endpoints whose records are to be fetched
	unsure  map[identity.ID]struct{} // attachments whose signature is to be verified
	gone    map[identity.ID]left     // endpoints that left on the other hub
}

// follow hears what a hub tells until the link ends. It returns why, if the hub had told nothing.
func (l *Links) follow(ctx context.Context, h *hub, s *tunnel.Session, p place) error {
	f := &follower{
		l: l, h: h, s: s, place: p,
		wanted: map[identity.ID]struct{}{}, unsure: map[identity.ID]struct{}{}, gone: map[identity.ID]left{},
	}
	l.mu.Lock()
	h.session, h.heard = s, time.Now()
	own := l.ownDoc
	l.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	worked := make(chan struct{})
	go func() { // awaited below
		defer close(worked)
		f.work(ctx)
	}()
	began := time.Now()
	err := s.LinkEvents(ctx, own, func(e tunnel.LinkEvent) {
		if !began.IsZero() {
			l.mu.Lock()
			h.rtt, began = time.Since(began), time.Time{}
			l.mu.Unlock()
		}
		if err := f.handle(e); err != nil {
			l.fault("link "+string(h.id), "a hub says what it must not", "hub", h.id, "err", err)
			s.Close()
		}
	})
	cancel()
	s.Close()
	<-worked
	l.mu.Lock()
	h.session = nil
	if h.standby != nil {
		h.standby.Close()
		h.standby = nil
	}
	l.mu.Unlock()
	if !began.IsZero() {
		return err
	}
	l.c.Log.Info("a link has ended", "hub", h.id, "address", p.address, "err", err)
	return nil
}

// handle takes one event. An error ends the link.
func (f *follower) handle(e tunnel.LinkEvent) error {
	switch e.Type {
	case tunnel.LinkSnapshot:
		f.fresh = map[identity.ID]*attachment{}
	case tunnel.LinkUp:
		return f.up(e)
	case tunnel.LinkEnd:
		f.end()
	case tunnel.LinkHub:
		f.hub(e.Hub)
	}
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	f.h.heard = time.Now()
	switch e.Type {
	case tunnel.LinkDown:
		delete(f.h.attached, e.ID)
	case tunnel.LinkLeft, tunnel.LinkRecord:
		f.bookLocked(e)
	case tunnel.LinkTrust:
		f.theirs = identity.Head{Version: e.Version, Sum: limit.Clip(e.Sum)}
		f.compare = true
		f.wake()
	case tunnel.LinkPing:
		f.h.agents, f.h.links = max(e.N, 0), max(e.Links, 0)
	}
	return nil
}

// bookLocked notes what the directory is to be told.
func (f *follower) bookLocked(e tunnel.LinkEvent) {
	if _, err := identity.ParseID(string(e.ID)); err != nil || f.l.c.Book == nil || len(f.gone)+len(f.wanted) >= 2*f.l.c.Most {
		return
	}
	if e.Type == tunnel.LinkLeft {
		delete(f.h.attached, e.ID)
		f.gone[e.ID] = left{time: e.Time, keep: e.Keep}
	} else {
		f.wanted[e.ID] = struct{}{}
	}
	f.wake()
}

var (
	errMany   = errors.New("more endpoints than a hub can have")
	errAttach = errors.New("an attachment of the wrong form")
)

// up notes that an endpoint is attached to the other hub.
func (f *follower) up(e tunnel.LinkEvent) error {
	_, err := identity.ParseID(string(e.ID))
	_, noAddress := netip.ParseAddrPort(e.Address)
	if err != nil || noAddress != nil && e.Address != "" || len(e.Instance) > 64 || len(e.Attach) > identity.MaxAttach {
		return errAttach
	}
	a := &attachment{Attachment: Attachment{e.Address, e.Attach, e.Instance, e.Since, e.Time}}
	l := f.l
	var have unixtime.Millis
	if l.c.Book != nil {
		_, have = l.c.Book.Record(e.ID)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f.h.heard = time.Now()
	to := f.fresh
	if to == nil {
		to = f.h.attached
	}
	_, again := to[e.ID]
	switch {
	case to == nil: // there was no snapshot, or the hub was lost
		return nil
	case !again && len(to) >= l.c.Most, len(f.wanted) >= 2*l.c.Most, len(f.unsure) >= 2*l.c.Most:
		return errMany
	}
	if old := f.h.attached[e.ID]; old != nil && old.same(a) {
		a.state = old.state // another record changes nothing about where the endpoint is
	}
	to[e.ID] = a
	if l.c.Book != nil && have < e.Time {
		f.wanted[e.ID] = struct{}{}
	}
	f.unsure[e.ID] = struct{}{}
	f.wake()
	return nil
}

// end puts a snapshot in the place of all that was known of the hub.
func (f *follower) end() {
	l := f.l
	l.mu.Lock()
	first := f.h.attached == nil
	if f.fresh != nil {
		f.h.attached, f.h.ghosts, f.fresh, f.h.trouble = f.fresh, nil, nil, ""
		for id := range f.h.attached { // looked at before, they were not there yet
			f.unsure[id] = struct{}{}
		}
		f.wake()
	}
	n := len(f.h.attached)
	l.mu.Unlock()
	if first {
		l.c.Log.Info("linked with a hub", "hub", f.h.id, "address", f.place.address, "endpoints", n)
		l.c.Host.Changed() // agents that heard that it was away may go home to it
	}
}

// hub takes the record of a hub: the other's own, or of one that it knows.
func (f *follower) hub(doc []byte) {
	if _, err := f.l.learn(doc); err != nil {
		f.l.fault("record "+string(f.h.id), "the record of a hub is refused", "from", f.h.id, "err", err)
	}
}

func (f *follower) wake() { f.h.rouse() }

// rouse wakes the goroutine that fetches from a hub.
func (h *hub) rouse() {
	select {
	case h.some <- struct{}{}:
	default:
	}
}

// work fetches what events have made necessary, and compares trust lists now and then.
func (f *follower) work(ctx context.Context) {
	again := time.NewTimer(compareTime)
	defer again.Stop()
	unsure := time.NewTicker(unsureTime)
	defer unsure.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.s.Done():
			return
		case <-f.h.some:
		case <-unsure.C:
			if !f.isUnsure() {
				continue
			}
		case <-again.C:
			f.l.mu.Lock()
			f.compare = true
			f.l.mu.Unlock()
			again.Reset(compareTime/2 + time.Duration(time.Now().UnixNano())%compareTime)
		}
		if err := f.fetch(ctx); err != nil && ctx.Err() == nil {
			f.l.fault("fetch "+string(f.h.id), "cannot fetch from a hub", "hub", f.h.id, "err", err)
		}
	}
}

func (f *follower) isUnsure() bool {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return len(f.unsure) > 0
}

func (f *follower) fetch(ctx context.Context) error {
	f.l.mu.Lock()
	compare, wanted, unsure, gone := f.compare, f.wanted, f.unsure, f.gone
	standby := f.h.wantsStandby
	f.h.wantsStandby = false
	f.compare, f.wanted, f.unsure = false, map[identity.ID]struct{}{}, map[identity.ID]struct{}{}
	f.gone = map[identity.ID]left{}
	f.l.mu.Unlock()
	for id, g := range gone {
		f.l.c.Book.Left(id, g.time, g.keep)
	}
	var err error
	if compare {
		err = f.trust(ctx)
	}
	if standby {
		err = errors.Join(err, f.l.prepare(ctx, f.h))
	}
	err = errors.Join(err, f.records(ctx, wanted)) // which have the keys for the next step
	f.verify(unsure)
	return err
}

// trust fetches the other hub's trust list if it may be better than ours, and brings ours if it may
// not be. Which of two lists counts is for identity to say.
func (f *follower) trust(ctx context.Context) error {
	f.l.mu.Lock()
	theirs := f.theirs
	f.l.mu.Unlock()
	ours := f.l.c.Verifier.Trust()
	if theirs == ours.Head() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if theirs.Version >= ours.Version() {
		var doc []byte
		if err := f.s.Ask(ctx, "GET", tunnel.PathLinkTrust, nil, &doc); err != nil || len(doc) == 0 {
			return err
		}
		subject, err := f.l.c.Verifier.Subject(f.s.TLS(), identity.RoleHub)
		if err != nil {
			return err
		}
		return f.l.c.Asked.SetTrust(doc, subject)
	}
	if doc := ours.Document(); doc != nil {
		return f.s.Ask(ctx, "POST", tunnel.PathLinkTrust, doc, nil)
	}
	return nil
}

// records fetches the records of endpoints. One that is not taken keeps no other from being so, and
// those that the other hub did not answer for are fetched with what is wanted next.
func (f *follower) records(ctx context.Context, wanted map[identity.ID]struct{}) error {
	ids := make([]identity.ID, 0, len(wanted))
	for id := range wanted {
		ids = append(ids, id)
	}
	var faults []error
	for len(ids) > 0 {
		batch := ids[:min(len(ids), tunnel.PageSize)]
		got, err := f.batch(ctx, batch)
		if err != nil {
			f.l.mu.Lock()
			for _, id := range ids {
				f.wanted[id] = struct{}{}
			}
			f.l.mu.Unlock()
			return errors.Join(append(faults, err)...)
		}
		faults = append(faults, f.learn(got))
		ids = ids[len(batch):]
	}
	return errors.Join(faults...)
}

func (f *follower) batch(ctx context.Context, ids []identity.ID) (got tunnel.Records, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err = f.s.Ask(ctx, "POST", tunnel.PathLinkEndpoints, tunnel.Wanted{IDs: ids}, &got)
	return got, err
}

// learn gives records to the directory.
func (f *follower) learn(got tunnel.Records) error {
	var faults []error
	for _, doc := range got.Records {
		r, subject, err := f.l.c.Verifier.Record(doc)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if f.l.Gone(subject.ID, r.Time) {
			continue
		}
		holder, err := f.l.c.Book.Learn(doc, r, subject)
		if holder != "" {
			f.l.Holds(f.h.id, holder)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// verify verifies the signatures of attachments, by the keys that the directory has for the
// endpoints.
// Those whose record is not there yet are verified later.
func (f *follower) verify(unsure map[identity.ID]struct{}) {
	for id := range unsure {
		if !f.l.judge(f.h, id) {
			f.l.mu.Lock()
			f.unsure[id] = struct{}{}
			f.l.mu.Unlock()
		}
	}
}
