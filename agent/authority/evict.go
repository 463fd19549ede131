package authority

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// How a user is evicted:
//
//  1. Evict       covers every admission of the user that the directory, this device or a clock ahead may have made
//  2. issueTrust  signs the next trust list and offers it to the hub, which decides between two lists of one version
//  3. offer       a hub that does not take it has no veto: the other hubs are asked
//  4. keep        if no hub takes it, it is in force here at once
//  5. handOn      peers get it, which hand it on (compareTrust): a hub that takes it may keep it to itself
//  6. settle      where no hub has it, it is brought to one again and again, until a hub has it
//
// A rotation of the CA takes the same way but for 4 to 6: the mesh has one CA only if the hubs
// agree to it.

const (
	issueAttempts = 5

	// evictionMargin is how far an eviction reaches beyond this device's clock: a root endpoint
	// whose clock is ahead by less may have made permits that nobody has used yet. Whoever is
	// invited again is admitted after it, see [identity.Trust.Admission].
	evictionMargin = 24 * time.Hour

	// MaxHubAhead is how far this device's clock may be ahead of the hub's when a list is signed.
	MaxHubAhead = time.Hour

	// settleEvery is how often a list that no hub has taken is offered again.
	settleEvery = 2 * time.Minute

	// maxHandOn is how many endpoints of the directory get a list from who signed it; they hand it on.
	maxHandOn = 64
)

// Evict cuts a user off: with the next trust list, which is in force here at once. With force it
// also evicts a user that nobody knows, and one that is evicted already once more.
func (a *Authority) Evict(ctx context.Context, user string, force bool, reason string) (api.Evicted, error) {
	out := api.Evicted{User: user}
	if err := a.mayEvict(reason); err != nil {
		return out, err
	}
	if user == a.User() {
		return out, answer.Errorf(answer.BadRequest, "user %s cannot evict itself", user)
	}
	if err := identity.CheckName(user); err != nil {
		return out, answer.Errorf(answer.BadRequest, "%v", err)
	}
	admissions, err := a.Admissions(ctx, user)
	if err != nil { // a hub that does not say who is there has no veto either
		a.Log.Warn("cannot ask the directory for the endpoints of the user", "user", user, "err", err)
		force = true
	}
	// A hub that hides the user's endpoints, or is away, does not hide those that this device has met.
	known := a.Directory.Admitted(user)
	out.Endpoints, admissions = max(len(admissions), len(known)), slices.Concat(admissions, a.Peers.Admitted(user), known)
	if last, found, err := a.Book.LastInvited(user); err != nil {
		return out, err
	} else if found {
		admissions = append(admissions, last)
	}
	if trust := a.Verifier.Trust(); !force && !anyValid(trust, user, admissions) {
		if out.Already = trust.Voids(user, time.Unix(0, 0)); out.Already {
			out.Version = trust.Version()
			return out, nil
		}
		return out, answer.Errorf(answer.NotFound, "user %s is unknown: no endpoint of theirs is in the directory or came here, and they were not invited here", user)
	}
	admitted := latest(a.Verifier.Clock().Now().Add(evictionMargin), admissions...)
	return a.evictAll(ctx, out, identity.Eviction{User: user, Admitted: admitted, Reason: reason})
}

// EvictDevice cuts off one endpoint, or a hub: the other endpoints of its user go on. With force it
// also evicts one that nobody knows.
func (a *Authority) EvictDevice(ctx context.Context, id identity.ID, hub, force bool, reason string) (api.Evicted, error) {
	out := api.Evicted{ID: id}
	if err := a.mayEvict(reason); err != nil {
		return out, err
	}
	if id == a.Self {
		return out, answer.Errorf(answer.BadRequest, "this endpoint cannot evict itself")
	}
	e := identity.Eviction{ID: id, Hub: hub, Admitted: a.Peers.AdmittedOf(id), Reason: reason}
	known, err := a.Directory.Find(ctx, id)
	switch {
	case err == nil && !hub:
		e.Name, e.Owner, e.Admitted = known.Name, known.User, latest(known.Admitted, e.Admitted)
	case e.Admitted.IsZero() && !force && !hub:
		return out, err
	case e.Admitted.IsZero():
		e.Admitted = a.Verifier.Clock().Now().Add(evictionMargin)
	}
	out.User, out.Name = e.Owner, e.Name
	if trust := a.Verifier.Trust(); trust.VoidsID(id, e.Admitted) && !force {
		out.Already, out.Version = true, trust.Version()
		return out, nil
	}
	return a.evictAll(ctx, out, e)
}

// mayEvict reports whether this endpoint can evict at all.
func (a *Authority) mayEvict(reason string) error {
	if _, err := a.Signer(); err != nil {
		return answer.Errorf(answer.Denied, "only an endpoint of user %s can evict: %v", RootUser, err)
	}
	if !identity.Printable(reason, 0, identity.MaxReason) {
		return answer.Errorf(answer.BadRequest, "the reason of an eviction has at most %d bytes of printable text", identity.MaxReason)
	}
	return nil
}

// latest returns the latest of some times.
func latest(t time.Time, more ...time.Time) time.Time {
	for _, m := range more {
		if m.After(t) {
			t = m
		}
	}
	return t
}

// anyValid reports whether an admission of a user is not void yet.
func anyValid(trust *identity.Trust, user string, admissions []time.Time) bool {
	return slices.ContainsFunc(admissions, func(a time.Time) bool { return !trust.Voids(user, a) })
}

// evictAll puts an eviction into the next list.
func (a *Authority) evictAll(ctx context.Context, out api.Evicted, e identity.Eviction) (api.Evicted, error) {
	e.By = a.Self
	for range issueAttempts {
		list, err := a.evictOnce(ctx, &out, e)
		if overtaken(err) {
			continue
		}
		if err != nil {
			return out, err
		}
		out.Version = list.Version()
		a.Work.Go(a.handOn)
		return out, nil
	}
	return out, errOvertaken
}

// evictOnce makes the list with an eviction and puts it in force. The error matches
// [identity.ErrFork] or [identity.ErrRollback] where another list came meanwhile.
func (a *Authority) evictOnce(ctx context.Context, out *api.Evicted, e identity.Eviction) (*identity.Trust, error) {
	list, err := a.issueTrust(ctx, func(t *identity.Trust, ca *identity.CA, now time.Time) (*identity.Trust, error) {
		// The time in the list is a hint for devices without a clock: one that is ahead must not be
		// in it. The reach of the eviction is by our own clock, which admitted.
		at := a.SigningTime(ctx, now)
		e.At = at
		return t.EvictAll(ca, at, e)
	})
	var no *untaken
	if errors.As(err, &no) {
		out.Refused = no.why.Error()
		return no.list, a.keep(no.list, cmp.Or(e.User, string(e.ID)))
	}
	out.Refused = ""
	return list, err
}

// errOvertaken is that others are at the trust list all the time.
var errOvertaken = answer.Errorf(answer.Conflict, "other endpoints of %s evict or rotate at the same time: try again", RootUser)

// overtaken reports that a list could not be put in force because another one came while it was made:
// the next is made from that one.
func overtaken(err error) bool {
	return errors.Is(err, identity.ErrFork) || errors.Is(err, identity.ErrRollback)
}

// untaken is a list that no hub has taken, for another reason than that there is a newer one.
type untaken struct {
	list *identity.Trust
	why  error
}

func (u *untaken) Error() string { return u.why.Error() }
func (u *untaken) Unwrap() error { return u.why }

// issueTrust makes the next trust list and gives it to the hub, which gives it to everyone. Where
// another endpoint made one at the same time it is made again, from theirs. next returns the list
// it was given if there is nothing left to do. A list that no hub takes is an *untaken.
func (a *Authority) issueTrust(ctx context.Context,
	next func(*identity.Trust, *identity.CA, time.Time) (*identity.Trust, error)) (*identity.Trust, error) {
	for range issueAttempts {
		ca, err := a.Signer()
		if err != nil {
			return nil, answer.Errorf(answer.Denied, "%v", err)
		}
		trust := a.base(ctx)
		list, err := next(trust, ca, a.Verifier.Clock().Now())
		var own *answer.Error
		if err != nil && !errors.As(err, &own) {
			err = answer.Errorf(answer.Internal, "%v", err)
		}
		if err != nil {
			return nil, err
		}
		if list == trust {
			return list, a.UpdateTrust(list.Document())
		}
		// The hub decides which of two lists of one version is the list: it goes there first.
		var s *tunnel.Session
		if err = a.arbitrate(ctx, list); err == nil {
			s, err = a.offerTrust(ctx, list)
		}
		if err == nil {
			if err = a.enforce(list); overtaken(err) {
				continue // the next is made from both
			}
			return list, err
		}
		if answer.CodeOf(err) != answer.Conflict {
			return nil, &untaken{list, answer.Lost(err)}
		}
		if s == nil {
			continue // arbitrate has learned
		}
		if err := a.learnTrust(ctx, s); err != nil {
			return nil, answer.Lost(err)
		}
	}
	return nil, errOvertaken
}

// enforce puts a list in force that a hub has taken. A later one that holds all of it may be in force
// here already, as another endpoint of root was at it at the same time: then all is done.
func (a *Authority) enforce(list *identity.Trust) error {
	err := a.UpdateTrust(list.Document())
	if errors.Is(err, identity.ErrRollback) && a.Verifier.Trust().Holds(list) {
		return nil
	}
	return err
}

// learnTrust takes the list of a hub that has another, unless the two are to be united: then the
// next attempt does that, see base.
func (a *Authority) learnTrust(ctx context.Context, s *tunnel.Session) error {
	var doc []byte
	err := s.Call(ctx, http.MethodGet, tunnel.PathTrust, nil, nil, &doc)
	if err == nil {
		err = a.UpdateTrust(doc)
	}
	if errors.Is(err, identity.ErrRollback) || errors.Is(err, identity.ErrFork) {
		return nil
	}
	return err
}

// base is the list that the next one is made from: the one in force, with what the hub has beside
// it. A hub that does not say what it has is not waited for.
func (a *Authority) base(ctx context.Context) *identity.Trust {
	own := a.Verifier.Trust()
	s, _ := a.Control.Now()
	if s == nil {
		return own
	}
	list, err := a.merged(ctx, s)
	if err != nil {
		a.Log.Warn("cannot compare the trust list with the hub's", "err", err)
		return own
	}
	return list
}

// offerTrust gives a list to the hub that this agent is connected to, and if that one does not take
// it, to each of the others. It returns the session of the hub that has another list already, with
// a conflict.
func (a *Authority) offerTrust(ctx context.Context, list *identity.Trust) (*tunnel.Session, error) {
	s, _, err := a.Control.Session(ctx)
	if err == nil {
		err = postTrust(ctx, s, list)
		if err == nil || answer.CodeOf(err) == answer.Conflict {
			return s, err
		}
	}
	errs := []error{err}
	for _, address := range a.Control.Addresses() {
		if s != nil && s.Address() == address {
			continue
		}
		other, _, err := a.Control.DialAt(ctx, address)
		if err == nil {
			err = postTrust(ctx, other, list)
			other.Close()
		}
		if err == nil {
			return nil, nil
		}
		if s != nil { // without a session these are the errors of the control session, once more
			errs = append(errs, err)
		}
	}
	return s, firstUseful(errs)
}

// firstUseful is what a person reads of the failures at several hubs: never a conflict at a hub
// that we are not connected to.
func firstUseful(errs []error) error {
	err := answer.Join(errs...)
	if answer.CodeOf(err) == answer.Conflict {
		return answer.Errorf(answer.Unavailable, "%v", err)
	}
	return err
}

func postTrust(ctx context.Context, s *tunnel.Session, list *identity.Trust) error {
	return s.Call(ctx, http.MethodPost, tunnel.PathTrust, nil, list.Document(), nil)
}

// keep puts an eviction in force here that no hub has taken.
func (a *Authority) keep(list *identity.Trust, whom string) error {
	// First that it is not settled: if the list is on disk then, it is brought to a hub at some
	// time, whatever happens here.
	err := a.Book.Save(func(r *Row) {
		if !slices.Contains(r.Unsettled, whom) {
			r.Unsettled = append(slices.Clone(r.Unsettled), whom)
		}
	})
	if err != nil {
		return err
	}
	if err := a.UpdateTrust(list.Document()); err != nil {
		return err
	}
	a.Log.Warn("no hub has taken this eviction: it is in force here and goes from endpoint to endpoint", "whom", whom, "version", list.Version())
	return nil
}

// handOn gives the trust list to peers: those that we have sessions with, and some of those that
// are online. It does so also where a hub has taken the list, which may keep it to itself.
//
// One round runs at a time. What is asked for meanwhile is one more round, with the list of then.
func (a *Authority) handOn() {
	if a.handing.Add(1) > 1 {
		return
	}
	for asked := int64(1); ; asked = a.handing.Load() {
		a.handOnce()
		if a.handing.CompareAndSwap(asked, 0) {
			return
		}
	}
}

func (a *Authority) handOnce() {
	ids := a.Peers.IDs()
	if online, err := a.Directory.Endpoints(a.Life, apps.Filter{Online: true, Limit: maxHandOn}); err == nil {
		for _, e := range online {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id == a.Self || a.Life.Err() != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(a.Life, tunnel.ProbeTimeout)
		if resp, err := a.Peers.Ask(ctx, id, http.MethodGet, seal.PathPing, nil); err == nil {
			resp.Body.Close() // ask has compared the lists
		}
		cancel()
	}
}

// Unsettled lists the users and devices that were evicted here and of whose eviction no hub knows.
func (a *Authority) Unsettled() []string {
	return a.Book.Membership().Unsettled
}

// Settle brings evictions that no hub has taken to a hub. If the hub has another list by now, they
// are evicted again from that one.
func (a *Authority) Settle(ctx context.Context, s *tunnel.Session) error {
	a.settleMu.Lock()
	defer a.settleMu.Unlock()
	users := a.Unsettled()
	if len(users) == 0 {
		return nil
	}
	for range issueAttempts {
		list, err := a.merged(ctx, s)
		if err != nil {
			return err
		}
		err = postTrust(ctx, s, list)
		if answer.CodeOf(err) == answer.Conflict {
			continue
		}
		if err != nil {
			return err
		}
		if err := a.UpdateTrust(list.Document()); err != nil {
			return err
		}
		a.Log.Info("the hub has taken the evictions", "users", users, "version", list.Version())
		return a.Book.Save(func(r *Row) {
			r.Unsettled = slices.DeleteFunc(slices.Clone(r.Unsettled), func(u string) bool { return slices.Contains(users, u) })
		})
	}
	return answer.Errorf(answer.Conflict, "other endpoints of %s evict or rotate at the same time", RootUser)
}

// merged is the list in force with all evictions of the hub's: two root endpoints that evict while
// no hub takes lists make two of one version.
func (a *Authority) merged(ctx context.Context, s *tunnel.Session) (*identity.Trust, error) {
	own := a.Verifier.Trust()
	var doc []byte
	if err := s.Call(ctx, http.MethodGet, tunnel.PathTrust, nil, nil, &doc); err != nil {
		return nil, err
	}
	if next, err := own.Update(doc); err == nil {
		return next, nil
	} else if errors.Is(err, identity.ErrRollback) {
		return own, nil
	}
	ca, err := a.Signer()
	if err != nil {
		return nil, err
	}
	list, err := own.Unite(ca, a.SigningTime(ctx, a.Verifier.Clock().Now()), doc)
	if errors.Is(err, identity.ErrNoCA) { // the mesh has another CA by now, whose key is elsewhere
		return nil, fmt.Errorf("evict again from an endpoint that holds the mesh's CA key: %w", err)
	}
	return list, err
}

// KeepSettling offers evictions that no hub has taken again, until the mesh ends.
func (a *Authority) KeepSettling() {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-a.Life.Done():
			return
		}
		if len(a.Unsettled()) == 0 {
			continue
		}
		if s, _ := a.Control.Now(); s != nil {
			if err := a.Settle(a.Life, s); err == nil {
				continue
			}
		}
		a.handOn()
	}
}

// SigningTime is the time for what this device signs with the CA key, and what clocks of others are
// then moved to: now, its own, but not later than the hub's. A hub that says that it is earlier than
// what is known is not believed. Without a hub it is now.
func (a *Authority) SigningTime(ctx context.Context, now time.Time) time.Time {
	hub, ok := a.askHubTime(ctx)
	if ok && now.Sub(hub) > MaxHubAhead && !hub.Before(a.Verifier.Trust().Issued()) && !hub.Before(a.Own().NotBefore) {
		a.Log.Warn("this device's clock is ahead of the hub's: is it right?", "hub", hub.UTC(), "here", now.UTC())
		return hub
	}
	return now
}

// askHubTime returns the time of the hub's clock, if there is a hub that says it.
func (a *Authority) askHubTime(ctx context.Context) (time.Time, bool) {
	s, _ := a.Control.Now()
	var status tunnel.HubStatus
	if s == nil || s.Call(ctx, http.MethodGet, tunnel.PathHub, nil, nil, &status) != nil || status.Time == 0 {
		return time.Time{}, false
	}
	return status.Time.Time(), true
}

// Admissions lists when the user's endpoints were admitted, as far as the directory knows: an
// eviction covers certificates that a fast clock made, too.
func (a *Authority) Admissions(ctx context.Context, user string) ([]time.Time, error) {
	var out []time.Time
	err := a.Directory.Entries(ctx, url.Values{"user": {user}}, func(e tunnel.Entry, fresh func(identity.ID) bool) (more bool) {
		r, s, err := a.Verifier.InspectRecord(e.Record)
		if err == nil && fresh(r.ID) && s.User == user {
			out = append(out, s.Admitted)
		}
		return true
	})
	return out, err
}
