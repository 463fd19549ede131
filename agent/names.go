package agent

import (
	"context"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// The hub says which endpoint has a name, and a name becomes free when its endpoint leaves. A
// person who types a name means the endpoint of yesterday: the first use of a name pins its user,
// as SSH pins the key of a host. The certificate of the mesh's CA says whose an endpoint is, so
// another device of the same user is no danger; it is worth a word.

// resolve finds the one endpoint that has a name, and pins the name. It refuses a name that another
// user has by now. With an offer the name is that of what endpoints of one user offer, as a cluster.
func (m *mesh) resolve(ctx context.Context, name, offer, user string) (api.Resolved, error) {
	if err := identity.CheckName(name); err != nil {
		return api.Resolved{}, answer.Errorf(answer.BadRequest, "%v", err)
	}
	f := apps.Filter{Name: name}
	if offer != "" {
		f = apps.Filter{Offer: offer, User: user}
	}
	found, err := m.Endpoints(ctx, f)
	if err != nil {
		return api.Resolved{}, err
	}
	return m.choose(name, found, offer != "")
}

// choose pins a name to the endpoint that was found, or to the user of those that offer the same.
func (m *mesh) choose(name string, found []apps.Endpoint, offered bool) (api.Resolved, error) {
	strange := func(e apps.Endpoint) bool { return !offered || e.User != found[0].User }
	switch {
	case len(found) == 0:
		return api.Resolved{}, answer.Errorf(answer.NotFound, "endpoint %q not found", name)
	case slices.ContainsFunc(found[1:], strange):
		var all []string
		for _, e := range found {
			all = append(all, string(e.ID)+" of user "+e.User)
		}
		return api.Resolved{}, answer.Errorf(answer.Conflict, "the hub says that several endpoints have the name %q: say which is meant of %s",
			name, strings.Join(all, ", "))
	}
	out := api.Resolved{Endpoint: found[0]}
	if out.Local {
		return out, nil
	}
	was, known, err := m.pin(name, out.Endpoint)
	if known && was.ID != out.ID {
		out.Was = &was
	}
	return out, err
}

// pin remembers who has a name and returns who had it. A name of another user stays as it was, and
// that is an error.
func (m *mesh) pin(name string, e apps.Endpoint) (was api.KnownName, known bool, err error) {
	now := api.KnownName{ID: e.ID, User: e.User, Admitted: e.Admitted, Since: m.agent.clock.Now().UTC().Truncate(time.Second)}
	return m.Pin(name, now, func(was api.KnownName) error {
		if was.User != e.User || m.replaced(was, e) {
			return nameConflict(name, was, e)
		}
		return nil
	})
}

// replaced reports whether the user of a known endpoint was evicted since: the one who was
// invited under that name again may be another person.
func (m *mesh) replaced(was api.KnownName, e apps.Endpoint) bool {
	return m.verifier.Trust().Voids(was.User, was.Admitted) && !was.Admitted.Equal(e.Admitted)
}

func nameConflict(name string, was api.KnownName, e apps.Endpoint) error {
	since := unixtime.Text(was.Since)
	if was.User == e.User {
		return answer.Errorf(answer.Conflict, "endpoint %s is not the one you know: user %s was evicted since %s and invited again, perhaps somebody else",
			name, e.User, since)
	}
	return answer.Errorf(answer.Conflict, "endpoint %s is not the one you know: since %s it was %s of user %s, and now it is %s of user %s",
		name, since, was.ID, was.User, e.ID, e.User)
}
