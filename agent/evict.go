package agent

import (
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
//  1. evict       covers every admission of the user that the directory, this device or a clock ahead may have made
//  2. issueTrust  signs the next trust list and offers it to the hub, which decides between two lists of one version
//  3. offer       a hub that does not take it has no veto: the other hubs are asked
//  4. keep        if no hub takes it, it is in force here at once and handed to peers, which hand it on (compareTrust)
//  5. settle      it is brought to the hub again, on each connection and every few minutes, until a hub has it
//
// A rotation of the CA takes the same way but for 4 and 5: the mesh has one CA only if the hubs agree to it.

const (
	issueAttempts = 5

	// evictionMargin is how far an eviction reaches beyond this device's clock: a root endpoint whose clock is ahead by less may have
	// made permits that nobody has used yet. Whoever is invited again is admitted after it, see [identity.Trust.Admission].
	evictionMargin = 24 * time.Hour

	// maxHubAhead is how far this device's clock may be ahead of the hub's when a list is signed.
	maxHubAhead = time.Hour

	// settleEvery is how often a list that no hub has taken is offered again.
	settleEvery = 2 * time.Minute

	// maxHandOn is how many endpoints of the directory get a list that no hub has taken; they hand it on.
	maxHandOn = 64
)

// evict cuts a user off: with the next trust list, which is in force here at once. With force it also evicts a user that nobody knows, and
// one that is evicted already once more.
func (a *authority) evict(ctx context.Context, user string, force bool) (api.Evicted, error) {
	out := api.Evicted{User: user}
	if _, err := a.signer(); err != nil {
		return out, answer.Errorf(answer.Denied, "only an endpoint of user %s can evict: %v", rootUser, err)
	}
	if user == a.user() {
		return out, answer.Errorf(answer.BadRequest, "user %s cannot evict itself", user)
	}
	if err := identity.CheckName(user); err != nil {
		return out, answer.Errorf(answer.BadRequest, "%v", err)
	}
	admissions, err := a.admissions(ctx, user)
	if err != nil { // a hub that does not say who is there has no veto either
		a.log.Warn("cannot ask the directory for the endpoints of the user", "user", user, "err", err)
		force = true
	}
	out.Endpoints = len(admissions)
	// A hub that hides the user's endpoints does not hide those that this device has met.
	admissions = slices.Concat(admissions, a.peers.Admitted(user), a.known.admitted(user))
	if last, found, err := lastInvited(a.book.db, a.name, user); err != nil {
		return out, err
	} else if found {
		admissions = append(admissions, last)
	}
	if trust := a.verifier.Trust(); !force && !anyValid(trust, user, admissions) {
		if out.Already = trust.Voids(user, time.Unix(0, 0)); out.Already {
			out.Version = trust.Version()
			return out, nil
		}
		return out, answer.Errorf(answer.NotFound, "user %s is unknown: no endpoint of theirs is in the directory or came here, and they were not invited here", user)
	}
	return a.evictAll(ctx, out, admissions)
}

// anyValid reports whether an admission of a user is not void yet.
func anyValid(trust *identity.Trust, user string, admissions []time.Time) bool {
	return slices.ContainsFunc(admissions, func(a time.Time) bool { return !trust.Voids(user, a) })
}

// evictAll evicts a user with all admissions.
func (a *authority) evictAll(ctx context.Context, out api.Evicted, admissions []time.Time) (api.Evicted, error) {
	list, err := a.issueTrust(ctx, func(t *identity.Trust, ca *identity.CA, now time.Time) (*identity.Trust, error) {
		// The time in the list is a hint for devices without a clock: one that is ahead must not be in it. The reach of the
		// eviction is by our own clock, which admitted.
		return t.Evict(ca, out.User, a.hubTime(ctx, now), append(admissions, now.Add(evictionMargin))...)
	})
	var no *untaken
	if errors.As(err, &no) {
		out.Refused = no.why.Error()
		err = a.keep(no.list, out.User)
		list = no.list
	}
	if err != nil {
		return out, err
	}
	out.Version = list.Version()
	return out, nil
}

// untaken is a list that no hub has taken, for another reason than that there is a newer one.
type untaken struct {
	list *identity.Trust
	why  error
}

func (u *untaken) Error() string { return u.why.Error() }
func (u *untaken) Unwrap() error { return u.why }

// issueTrust makes the next trust list and gives it to the hub, which gives it to everyone. Where somebody else made one at the same
// time it is made again, from theirs. next returns the list it was given if there is nothing left to do. A list that no hub takes is an
// *untaken.
func (a *authority) issueTrust(ctx context.Context,
	next func(*identity.Trust, *identity.CA, time.Time) (*identity.Trust, error)) (*identity.Trust, error) {
	for range issueAttempts {
		ca, err := a.signer()
		if err != nil {
			return nil, answer.Errorf(answer.Denied, "%v", err)
		}
		trust := a.verifier.Trust()
		list, err := next(trust, ca, a.verifier.Clock().Now())
		var own *answer.Error
		if err != nil && !errors.As(err, &own) {
			err = answer.Errorf(answer.Internal, "%v", err)
		}
		if err != nil || list == trust {
			return list, err
		}
		// The hub decides which of two lists of one version is the list: it goes there first.
		s, err := a.offerTrust(ctx, list)
		if err == nil {
			return list, a.updateTrust(list.Document())
		}
		if answer.CodeOf(err) != answer.Conflict {
			return nil, &untaken{list, answer.Lost(err)}
		}
		if err := a.fetchTrust(s); errors.Is(err, identity.ErrRollback) && len(a.unsettled()) > 0 {
			err = a.settle(ctx, s) // ours, which no hub had taken, and theirs have one version
		} else if err != nil {
			return nil, answer.Lost(err)
		}
	}
	return nil, answer.Errorf(answer.Conflict, "other endpoints of %s evict or rotate at the same time: try again", rootUser)
}

// offerTrust gives a list to the hub that this agent is connected to, and if that one does not take it, to each of the others. It returns
// the session of the hub that has another list already, with a conflict.
func (a *authority) offerTrust(ctx context.Context, list *identity.Trust) (*tunnel.Session, error) {
	s, _, err := a.control.Session(ctx)
	if err == nil {
		err = postTrust(ctx, s, list)
		if err == nil || answer.CodeOf(err) == answer.Conflict {
			return s, err
		}
	}
	errs := []error{err}
	for _, address := range a.control.Addresses() {
		if s != nil && s.Address() == address {
			continue
		}
		other, _, err := a.control.DialAt(ctx, address)
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

// firstUseful is what a person reads of the failures at several hubs: never a conflict at a hub that we are not connected to.
func firstUseful(errs []error) error {
	err := errors.Join(errs...)
	if answer.CodeOf(err) == answer.Conflict {
		return answer.Errorf(answer.Unavailable, "%v", err)
	}
	return err
}

func postTrust(ctx context.Context, s *tunnel.Session, list *identity.Trust) error {
	return s.Call(ctx, http.MethodPost, tunnel.PathTrust, nil, list.Document(), nil)
}

// keep puts an eviction in force here that no hub has taken, and hands it to peers.
func (a *authority) keep(list *identity.Trust, user string) error {
	// First that it is not settled: if the list is on disk then, it is brought to a hub at some time, whatever happens here.
	err := a.book.save(func(r *meshRow) {
		if !slices.Contains(r.Unsettled, user) {
			r.Unsettled = append(slices.Clone(r.Unsettled), user)
		}
	})
	if err != nil {
		return err
	}
	if err := a.updateTrust(list.Document()); err != nil {
		return err
	}
	a.log.Warn("no hub has taken this eviction: it is in force here and goes from endpoint to endpoint", "user", user, "version", list.Version())
	a.work.Go(a.handOn)
	return nil
}

// handOn gives the trust list to peers: those that we have sessions with, and some of those that are online.
func (a *authority) handOn() {
	ids := a.peers.IDs()
	if online, err := a.mesh.Endpoints(a.life, apps.Filter{Online: true, Limit: maxHandOn}); err == nil {
		for _, e := range online {
			ids = append(ids, e.ID)
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id == a.self || a.life.Err() != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(a.life, tunnel.ProbeTimeout)
		if resp, err := a.peers.Ask(ctx, id, http.MethodGet, seal.PathPing, nil); err == nil {
			resp.Body.Close() // ask has compared the lists
		}
		cancel()
	}
}

// unsettled lists the users that were evicted here and of whose eviction no hub knows.
func (a *authority) unsettled() []string {
	return a.book.membership().Unsettled
}

// settle brings evictions that no hub has taken to a hub. If the hub has another list by now, they are evicted again from that one.
func (a *authority) settle(ctx context.Context, s *tunnel.Session) error {
	a.settleMu.Lock()
	defer a.settleMu.Unlock()
	users := a.unsettled()
	if len(users) == 0 {
		return nil
	}
	for range issueAttempts {
		list, err := a.merged(ctx, s, users)
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
		if err := a.updateTrust(list.Document()); err != nil {
			return err
		}
		a.log.Info("the hub has taken the evictions", "users", users, "version", list.Version())
		return a.book.save(func(r *meshRow) {
			r.Unsettled = slices.DeleteFunc(slices.Clone(r.Unsettled), func(u string) bool { return slices.Contains(users, u) })
		})
	}
	return answer.Errorf(answer.Conflict, "other endpoints of %s evict or rotate at the same time", rootUser)
}

// merged is the list in force if the hub has none that is newer or another of its version; otherwise the hub's list, and in it what was evicted
// here.
func (a *authority) merged(ctx context.Context, s *tunnel.Session, users []string) (*identity.Trust, error) {
	own := a.verifier.Trust()
	var doc []byte
	if err := s.Call(ctx, http.MethodGet, tunnel.PathTrust, nil, nil, &doc); err != nil {
		return nil, err
	}
	begin := a.book.membership().CA
	theirs, err := identity.ParseTrust([]byte(begin), doc)
	if len(doc) == 0 || err == nil && (theirs.Version() < own.Version() || string(theirs.Document()) == string(own.Document())) {
		return own, nil
	}
	if err != nil {
		return nil, err
	}
	ca, err := a.signer()
	if err != nil {
		return nil, err
	}
	now := a.verifier.Clock().Now()
	list := theirs
	for _, e := range own.Evictions() {
		if !slices.Contains(users, e.User) || list.Voids(e.User, e.Admitted) && list.Version() > own.Version() {
			continue
		}
		if list, err = list.Evict(ca, e.User, a.hubTime(ctx, now), e.Admitted); err != nil {
			// The mesh has another CA by now, whose key is elsewhere.
			return nil, errors.Join(fmt.Errorf("evict %s again from an endpoint that holds the mesh's CA key: %w", e.User, err),
				a.updateTrust(theirs.Document()))
		}
	}
	return list, nil
}

// keepSettling offers evictions that no hub has taken again, until the mesh ends.
func (a *authority) keepSettling() {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-a.life.Done():
			return
		}
		if len(a.unsettled()) == 0 {
			continue
		}
		if s, _ := a.control.Now(); s != nil {
			if err := a.settle(a.life, s); err == nil {
				continue
			}
		}
		a.handOn()
	}
}

// hubTime is the time for a list that this device signs: its own, but not later than the hub's. A hub that says that it is earlier than what is
// known is not believed.
func (a *authority) hubTime(ctx context.Context, now time.Time) time.Time {
	hub, ok := a.askHubTime(ctx)
	if ok && now.Sub(hub) > maxHubAhead && hub.After(a.verifier.Trust().Issued()) && hub.After(a.own().NotBefore) {
		a.log.Warn("this device's clock is ahead of the hub's: is it right?", "hub", hub.UTC(), "here", now.UTC())
		return hub
	}
	return now
}

// askHubTime returns the time of the hub's clock, if there is a hub that says it.
func (a *authority) askHubTime(ctx context.Context) (time.Time, bool) {
	s, _ := a.control.Now()
	var status tunnel.HubStatus
	if s == nil || s.Call(ctx, http.MethodGet, tunnel.PathHub, nil, nil, &status) != nil || status.Time == 0 {
		return time.Time{}, false
	}
	return time.Unix(status.Time, 0), true
}

// admissions lists when the user's endpoints were admitted, as far as the directory knows: an eviction covers certificates that a
// fast clock made, too.
func (a *authority) admissions(ctx context.Context, user string) ([]time.Time, error) {
	var out []time.Time
	err := a.mesh.entries(ctx, url.Values{"user": {user}}, func(e tunnel.Entry, fresh func(identity.ID) bool) (more bool) {
		r, s, err := a.verifier.InspectRecord(e.Record)
		if err == nil && fresh(r.ID) && s.User == user {
			out = append(out, s.Admitted)
		}
		return true
	})
	return out, err
}
