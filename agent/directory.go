package agent

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/known"
	"ztm/agent/limits"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// Endpoints implements apps.Mesh. A record that does not verify is left out: the hub may have made
// it up, or its user was evicted a moment ago.
func (m *mesh) Endpoints(ctx context.Context, f apps.Filter) ([]apps.Endpoint, error) {
	q := url.Values{}
	for key, value := range map[string]string{"name": f.Name, "user": f.User, "offer": f.Offer, "keyword": f.Keyword} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if f.Online {
		q.Set("online", "true")
	}
	q.Set("offset", strconv.Itoa(f.Offset))
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	out, err := m.matching(ctx, m.ask, q, f)
	if err != nil || f.Offer == "" && f.Name == "" || slices.ContainsFunc(out, isOnline) {
		return out, err
	}
	// It is looked for. A hub that is cut off from the others does not know who is with them.
	if other, err := m.matching(ctx, m.askOther, q, f); err == nil && slices.ContainsFunc(other, isOnline) {
		return other, nil
	}
	return out, nil
}

func isOnline(e apps.Endpoint) bool { return e.Online }

// matching lists the endpoints of a hub's directory that a filter lets through.
func (m *mesh) matching(ctx context.Context, ask askFunc, q url.Values, f apps.Filter) ([]apps.Endpoint, error) {
	out := []apps.Endpoint{}
	err := m.entries(ctx, ask, q, func(entry tunnel.Entry, fresh func(identity.ID) bool) (more bool) {
		e, err := m.endpoint(entry)
		if err != nil {
			m.log.Debug("a record of the directory is left out", "err", err)
		} else if fresh(e.ID) && known.Matches(e, f) {
			out = append(out, e)
		}
		return f.Limit == 0 || len(out) < f.Limit
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// askFunc asks a hub for a page of its directory.
type askFunc func(ctx context.Context, q url.Values, page *tunnel.Page) error

func (m *mesh) ask(ctx context.Context, q url.Values, page *tunnel.Page) error {
	return m.control.Call(ctx, http.MethodGet, tunnel.PathEndpoints, q, nil, page)
}

func (m *mesh) askOther(ctx context.Context, q url.Values, page *tunnel.Page) error {
	return m.control.CallOther(ctx, tunnel.PathEndpoints, q, page)
}

// useFunc takes an entry of the directory, and reports whether it wants more. It asks fresh whether
// an ID is new.
type useFunc = func(e tunnel.Entry, fresh func(identity.ID) bool) (more bool)

// Entries reads the entries of the directory that a query asks for, page by page, until use wants
// no more.
func (m *mesh) Entries(ctx context.Context, q url.Values, use useFunc) error {
	return m.entries(ctx, m.ask, q, use)
}

// entries is Entries of the directory of one hub. The pages of one that changes may overlap, and one
// that has nothing but IDs of earlier pages is the last.
func (m *mesh) entries(ctx context.Context, ask askFunc, q url.Values, use useFunc) error {
	q = maps.Clone(q)
	offset, _ := strconv.Atoi(q.Get("offset")) // "" is 0
	seen := map[identity.ID]struct{}{}
	for end := offset + limits.Directory; offset < end; {
		q.Set("offset", strconv.Itoa(offset))
		var page tunnel.Page
		if err := ask(ctx, q, &page); err != nil {
			return err
		}
		old := 0
		fresh := func(id identity.ID) bool {
			if _, ok := seen[id]; ok {
				old++
				return false
			}
			seen[id] = struct{}{}
			return true
		}
		for _, e := range page.Entries {
			if !use(e, fresh) {
				return nil
			}
		}
		offset += len(page.Entries)
		if !page.More || old == len(page.Entries) {
			return nil
		}
	}
	m.log.Warn("the hub's directory has no end: the rest is left out", "entries", limits.Directory)
	return nil
}

// lookup finds one endpoint by ID.
func (m *mesh) lookup(ctx context.Context, id identity.ID) (apps.Endpoint, error) {
	if id == m.agent.self {
		return m.Self(), nil
	}
	var entry tunnel.Entry
	if err := m.control.Call(ctx, http.MethodGet, tunnel.PathEndpoints+"/"+url.PathEscape(string(id)), nil, nil, &entry); err != nil {
		return apps.Endpoint{}, err
	}
	e, err := m.endpoint(entry)
	if err != nil {
		return apps.Endpoint{}, answer.Errorf(answer.Broken, "the hub's record of endpoint %s: %v", id, err)
	}
	if e.ID != id {
		return apps.Endpoint{}, answer.Errorf(answer.Broken, "the hub gave the record of %s for endpoint %s", e.ID, id)
	}
	return e, nil
}

const (
	maxLearning = 16              // how many names are asked for at once
	learnTime   = 5 * time.Second // how long one may take
)

// learn has the directory say who an endpoint is that opens a session and is not known yet, so that the log
// and the audit log have its name. It does not wait, and asks nothing while many are asked for.
func (m *mesh) learn(id identity.ID) {
	if m.known.NameOf(id) != "" {
		return
	}
	select {
	case m.learning <- struct{}{}:
	default:
		return
	}
	if !m.work.Go(func() {
		defer func() { <-m.learning }()
		ctx, cancel := context.WithTimeout(m.life, learnTime)
		defer cancel()
		m.lookup(ctx, id)
	}) {
		<-m.learning
	}
}

// endpoint verifies an entry of the directory.
func (m *mesh) endpoint(entry tunnel.Entry) (apps.Endpoint, error) {
	r, subject, err := m.verifier.Record(entry.Record)
	if err != nil {
		return apps.Endpoint{}, err
	}
	e := apps.Endpoint{
		ID: r.ID, Name: r.Name, User: subject.User, Labels: r.Labels, Offers: r.Offers, Version: r.Version, Signer: r.Signer,
		Address: entry.Address, Online: entry.Online, Seen: moment(entry.Seen), Local: r.ID == m.agent.self,
		Admitted: subject.Admitted,
	}
	m.known.Remember(e, subject, entry.Hubs, m.agent.clock.Now())
	return e, nil
}

// moment is a time of the wire; zero is unknown.
func moment(at unixtime.Seconds) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return at.Time().UTC()
}

// away reports whether an error means that the hub cannot be asked now.
func away(err error) bool {
	code := answer.CodeOf(err)
	return code == answer.Unavailable || code == answer.Broken || code == answer.Timeout
}

// lastKnown is the directory as it was when the hub was there last, and a word on that; false if
// nothing is known.
func (m *mesh) lastKnown(f apps.Filter, why error) (list []apps.Endpoint, warning string, ok bool) {
	list, at := m.known.List(f, func(s identity.Subject) bool { return m.authority.Reverify(s) == nil })
	return list, staleWarning(at, why), !at.IsZero()
}

func staleWarning(at time.Time, why error) string {
	return fmt.Sprintf("the hub cannot be asked: this is the directory as of %s, and who is online is not known (%v)",
		unixtime.Text(at), why)
}

// knownSoon is how long people who can be shown what is known wait for a hub that is away. Most
// come back by then.
const knownSoon = 300 * time.Millisecond

// soon bounds a question of people that can be answered by what is known, while the hub is away.
func (m *mesh) soon(ctx context.Context) (context.Context, context.CancelFunc) {
	status, err := m.control.Status()
	if status == api.Connected || m.known.AsOf().IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, knownSoon, answer.Errorf(answer.Unavailable, "mesh %s is not connected: %v", m.name, err))
}

// shown lists endpoints for people: as the directory has them or, while the hub is away, as they
// are known. w gets the warning.
func (m *mesh) shown(ctx context.Context, w http.ResponseWriter, f apps.Filter) ([]apps.Endpoint, error) {
	ctx, cancel := m.soon(ctx)
	defer cancel()
	list, err := m.Endpoints(ctx, f)
	if err == nil || !away(err) {
		return list, err
	}
	list, warning, ok := m.lastKnown(f, err)
	if !ok {
		return nil, err
	}
	api.AddWarning(w.Header(), warning)
	return list, nil
}

// shownOne finds one endpoint for people, as shown does.
func (m *mesh) shownOne(ctx context.Context, w http.ResponseWriter, id identity.ID) (apps.Endpoint, error) {
	ctx, cancel := m.soon(ctx)
	defer cancel()
	e, err := m.lookup(ctx, id)
	if err == nil || !away(err) {
		return e, err
	}
	e, at, ok := m.known.Endpoint(id)
	if !ok {
		return e, err
	}
	api.AddWarning(w.Header(), staleWarning(at, err))
	return e, nil
}

// users lists who has a right to be in the mesh, see [known.Users].
func (m *mesh) users(all []apps.Endpoint) ([]api.User, error) {
	admitted, err := m.Admissions()
	if err != nil {
		return nil, err
	}
	issued, err := m.Issued(m.verifier.Clock().Now())
	if err != nil {
		return nil, err
	}
	users := m.known.Users(all, m.authority.Own(), m.Membership().Name, m.verifier.Clock().Now())
	trust := m.verifier.Trust()
	for id, r := range admitted {
		if at := cmp.Or(r.Admitted, r.At).Time(); !trust.Voids(r.User, at) && !trust.VoidsID(id, at) {
			users.Admitted(id, r.User, r.At.Time())
		}
	}
	for _, i := range issued {
		if i.Used < i.Uses && !i.Revoked && !trust.Voids(i.User, i.Admitted) {
			users.Invited(i.User, i.Expires)
		}
	}
	list := users.List()
	for i, u := range list {
		list[i].Ends = m.policy.Ends(u.Name)
	}
	return list, nil
}

// Signers lists other endpoints that hold the CA key and are online: only endpoints of root can,
// whatever a record says.
func (m *mesh) Signers(ctx context.Context) ([]apps.Endpoint, error) {
	all, err := m.Endpoints(ctx, apps.Filter{User: rootUser, Online: true})
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(e apps.Endpoint) bool { return !e.Signer || e.Local })
	if len(all) == 0 {
		return nil, fmt.Errorf("no endpoint that holds the CA key is online")
	}
	return all, nil
}

const rootUser = authority.RootUser

// Find implements [authority.Directory]. The certificate of an endpoint that is to be evicted may
// have expired.
func (m *mesh) Find(ctx context.Context, id identity.ID) (apps.Endpoint, error) {
	var entry tunnel.Entry
	err := m.control.Call(ctx, http.MethodGet, tunnel.PathEndpoints+"/"+url.PathEscape(string(id)), nil, nil, &entry)
	if err == nil {
		r, s, err := m.verifier.InspectRecord(entry.Record)
		if err != nil || r.ID != id {
			return apps.Endpoint{}, answer.Errorf(answer.Broken, "the hub's record of endpoint %s is not good", id)
		}
		return apps.Endpoint{ID: r.ID, Name: r.Name, User: s.User, Online: entry.Online, Seen: moment(entry.Seen), Admitted: s.Admitted}, nil
	}
	if e, _, ok := m.known.Endpoint(id); ok {
		return e, nil
	}
	return apps.Endpoint{}, err
}

// Admitted implements [authority.Directory].
func (m *mesh) Admitted(user string) []time.Time { return m.known.Admitted(user) }
