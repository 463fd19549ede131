package keep

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/feature"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	signed "ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// Manage answers a request of the endpoint's own user, below "policy". Package api says what its
// paths and answers are.
func (k *Keeper) Manage(w http.ResponseWriter, r *http.Request, path string) {
	name, below, _ := strings.Cut(path, "/")
	var out any
	var err error
	switch at := r.Method + " " + name; {
	case at == "GET ":
		out = k.status()
	case feature.Policies && at == "GET source":
		out, err = k.getSource()
	case feature.Policies && at == "PUT source":
		out, err = k.putSource(w, r)
	case feature.Policies && at == "GET unconfirmed":
		out, err = k.unconfirmed(r.Context())
	case at == "GET grants":
		out = k.grants()
	case at == "GET groups":
		out = k.groups()
	case feature.Policies && at == "POST groups":
		out, err = k.changeGroup(w, r, below)
	case feature.Policies && at == "POST users":
		err = k.changeUser(w, r, below)
	case at == "GET unknown":
		out = k.unknown(r.Context(), r.URL.Query()["term"])
	case feature.Policies && at == "POST labels":
		out, err = k.changeLabels(w, r)
	case feature.Policies && at == "POST direct":
		err = k.changeDirect(w, r)
	case at == "GET rules":
		out, err = k.rules()
	case at == "GET can":
		out, err = k.can(r.Context(), identity.ID(r.URL.Query().Get("of")))
	case at == "GET who-can":
		out, err = k.whoCan(r.Context(), r.URL.Query().Get("target"), identity.ID(r.URL.Query().Get("of")))
	case !feature.Policies && (r.Method != http.MethodGet || name == "source"):
		err = errMakesNone
	default:
		err = answer.Errorf(answer.NotFound, "the policy has no %s %q", r.Method, path)
	}
	answer.Reply(w, k.Log, out, err)
}

// maxChange is how much is read of a change, in bytes; a source is larger.
const maxChange = 1 << 20

func (k *Keeper) status() api.Policy {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := api.Policy{Labels: []string{}, Unknown: []string{}}
	if k.head == nil {
		return out
	}
	out.Version, out.Mode, out.Direct, out.Issued, out.By = k.head.Version, k.head.Mode, k.head.Direct, k.head.Issued.Time().UTC(), k.head.By
	if feature.Policies {
		out.Unconfirmed = k.leftLocked()
	}
	r := k.rights.Load()
	out.Stale = r.IsStale()
	if k.slice != nil {
		out.InForce, out.Labels = k.slice.Head == k.head.Sum, append(out.Labels, k.slice.Labels...)
	}
	for _, t := range k.askedLocked() {
		if !r.Knows(t) {
			out.Unknown = append(out.Unknown, t)
		}
	}
	return out
}

func (k *Keeper) getSource() (api.PolicySource, error) {
	source, version, err := k.Source()
	return api.PolicySource{Version: version, Source: source}, err
}

// putSource replaces the source, if it was made from the version in force.
func (k *Keeper) putSource(w http.ResponseWriter, r *http.Request) (out api.PolicySource, err error) {
	var in api.PolicySource
	if err := answer.Decode(r, 2*signed.MaxSource, &in); err != nil {
		return out, err
	}
	answer.Explain(w, "made from version %d", in.Version)
	if in.Source == nil {
		return out, answer.Errorf(answer.BadRequest, "the source is missing")
	}
	var before map[string]signed.Group
	version, err := k.Propose(r.Context(), func(s *signed.Source) error {
		if _, now, err := k.Source(); err != nil || now != in.Version {
			return cmp.Or(err, error(answer.Errorf(answer.Conflict, "version %d of the policy is in force by now, and this was made from %d", now, in.Version)))
		}
		next := in.Source.Clone()
		eachNew(next, s, func(user string, _ unixtime.Seconds) unixtime.Seconds { return k.Added(user) }) // an eviction reaches minutes ahead
		before = s.Groups
		*s = *next
		return nil
	})
	if err != nil {
		return out, err
	}
	k.announceChanges(before, in.Source.Groups)
	source, _, err := k.Source()
	return api.PolicySource{Version: version, Source: source}, err
}

// announceChanges tells of the groups whose use is announced, before or after, and that are others
// now.
func (k *Keeper) announceChanges(before, after map[string]signed.Group) {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, known := after[name]; !known && before[name].Notify {
			k.Announce(name, "the group was removed", "")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		was, is := before[name], after[name]
		same := was.Max == is.Max && was.Notify == is.Notify && was.Visible == is.Visible && slices.Equal(was.Members, is.Members)
		if (was.Notify || is.Notify) && !same {
			k.Announce(name, fmt.Sprintf("the group has %d members, and %d before", len(is.Members), len(was.Members)), "")
		}
	}
}

// changeDirect sets how far all devices may go without a hub.
func (k *Keeper) changeDirect(w http.ResponseWriter, r *http.Request) error {
	var in api.DirectChange
	if err := answer.Decode(r, maxChange, &in); err != nil {
		return err
	}
	answer.Explain(w, "%s", cmp.Or(in.Direct, "auto"))
	_, err := k.Propose(r.Context(), func(s *signed.Source) error {
		s.Direct = in.Direct
		return nil
	})
	return err
}

// grants lists the grants that are for this endpoint.
func (k *Keeper) grants() []signed.Given {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.slice == nil {
		return []signed.Given{}
	}
	return append([]signed.Given{}, k.slice.Grants...)
}

// groups lists the groups that are known here: all of them to a holder of the CA key, and else those
// that matter at this endpoint.
func (k *Keeper) groups() []api.Group {
	known := map[string]signed.Group{}
	k.mu.Lock()
	if k.slice != nil {
		known = k.slice.Groups
	}
	k.mu.Unlock()
	if feature.Policies {
		if source, _, err := k.Source(); err == nil {
			known = source.Groups
		}
	}
	out, trust := []api.Group{}, k.Verifier.Trust()
	for _, name := range slices.Sorted(maps.Keys(known)) {
		g := api.Group{Name: name, Group: known[name]}
		for _, m := range g.Members {
			if trust.Voids(m.User, m.Added.Time()) {
				g.Void = append(g.Void, m.User)
			}
		}
		out = append(out, g)
	}
	return out
}

func (k *Keeper) changeGroup(w http.ResponseWriter, r *http.Request, name string) (out api.Group, err error) {
	var in api.GroupChange
	if err := answer.Decode(r, maxChange, &in); err != nil {
		return out, err
	}
	if err := identity.CheckName(name); err != nil {
		return out, answer.Errorf(answer.BadRequest, "group: %v", err)
	}
	if !identity.Printable(in.Reason, 0, identity.MaxReason) {
		return out, answer.Errorf(answer.BadRequest, "the reason has at most %d bytes of printable text", identity.MaxReason)
	}
	loud := false
	version, err := k.Propose(r.Context(), func(s *signed.Source) error {
		g, known := s.Groups[name]
		loud = g.Notify
		if in.Delete {
			delete(s.Groups, name)
			return missing(known, name)
		}
		if !known && len(in.Add) == 0 && len(in.Remove) > 0 {
			return missing(false, name)
		}
		if err := k.edit(&g, name, in); err != nil {
			return err
		}
		s.Groups[name], out = g, api.Group{Name: name, Group: g}
		return nil
	})
	answer.Explain(w, "%s", in)
	if err == nil {
		k.Log.Info("a group was changed", "group", name, "add", in.Add, "remove", in.Remove, "reason", in.Reason, "version", version)
		if loud {
			k.Announce(name, in.String(), "")
		}
	}
	return out, err
}

func missing(known bool, group string) error {
	if known {
		return nil
	}
	return answer.Errorf(answer.NotFound, "there is no group %s", group)
}

// edit makes a change of a group.
func (k *Keeper) edit(g *signed.Group, name string, in api.GroupChange) error {
	now := k.Verifier.Clock().Now()
	until, ok := ending(in.Until, unixtime.Of(now))
	if !ok {
		return answer.Errorf(answer.BadRequest, "the end of the membership has passed")
	}
	if in.Max != nil {
		g.Max = time.Duration(*in.Max).Milliseconds()
	}
	if in.Visible != nil {
		g.Visible = *in.Visible
	}
	g.Members = append([]signed.Member{}, g.Members...) // not nil, also of a new group
	for _, u := range in.Remove {
		i := slices.IndexFunc(g.Members, func(m signed.Member) bool { return m.User == u })
		if i < 0 {
			return answer.Errorf(answer.NotFound, "user %s is not in group %s", u, name)
		}
		g.Members = slices.Delete(g.Members, i, i+1)
	}
	for _, u := range in.Add {
		if err := identity.CheckName(u); err != nil {
			return answer.Errorf(answer.BadRequest, "user: %v", err)
		}
		g.Members = slices.DeleteFunc(g.Members, func(m signed.Member) bool { return m.User == u })
		g.Members = append(g.Members, signed.Member{User: u, Added: k.Added(u), Until: until})
	}
	slices.SortFunc(g.Members, func(a, b signed.Member) int { return strings.Compare(a.User, b.User) })
	return nil
}

// ending is an end as it is signed, in Unix seconds; 0: there is none. It reports false for one that
// has passed.
func ending(t time.Time, now unixtime.Seconds) (seconds unixtime.Seconds, ok bool) {
	if t.IsZero() {
		return 0, true
	}
	return unixtime.Of(t), unixtime.Of(t) > now
}

// Added is the time to write beside a user who is put somewhere now, in Unix seconds: after the last
// eviction of that name.
func (k *Keeper) Added(user string) unixtime.Seconds {
	return unixtime.Of(k.Verifier.Trust().Admission(user, k.Verifier.Clock().Now()))
}

// changeUser sets when the access of a user ends.
func (k *Keeper) changeUser(w http.ResponseWriter, r *http.Request, name string) error {
	var in api.UserChange
	if err := answer.Decode(r, maxChange, &in); err != nil {
		return err
	}
	if err := identity.CheckName(name); err != nil {
		return answer.Errorf(answer.BadRequest, "user: %v", err)
	}
	until, ok := ending(in.Until, k.now())
	if !ok {
		return answer.Errorf(answer.BadRequest, "the end of the access has passed")
	}
	answer.Explain(w, "until %s", api.End(in.Until))
	_, err := k.Propose(r.Context(), func(s *signed.Source) error {
		s.Users[name] = signed.User{Until: until}
		return nil
	})
	return err
}

// unknown lists those terms of a rule that the policy has not.
func (k *Keeper) unknown(ctx context.Context, terms []string) []string {
	terms = terms[:min(len(terms), signed.MaxAsked)]
	k.Await(ctx, terms)
	out, r := []string{}, k.rights.Load()
	for _, t := range terms {
		if !r.Knows(t) {
			out = append(out, t)
		}
	}
	return out
}

// Ends is when the access of a user ends by the policy, or has ended; zero: not.
func (k *Keeper) Ends(user string) time.Time {
	if end := k.rights.Load().End(user); end != 0 {
		return end.Time()
	}
	return time.Time{}
}

// changeLabels changes the labels of an endpoint, and pins its name.
func (k *Keeper) changeLabels(w http.ResponseWriter, r *http.Request) (out signed.Endpoint, err error) {
	var in api.LabelChange
	if err := answer.Decode(r, maxChange, &in); err != nil {
		return out, err
	}
	answer.Explain(w, "%s", in)
	_, err = k.Propose(r.Context(), func(s *signed.Source) error {
		e, known := s.Endpoints[in.Name]
		if known && e.ID != in.ID && !in.Repin {
			return answer.Errorf(answer.Conflict, "endpoint %s is %s by the policy, and another device by that name is %s now", in.Name, e.ID, in.ID)
		}
		labels, err := apps.Changed("label", e.Labels, in.Add, in.Remove)
		if err != nil {
			return err
		}
		e.ID, e.Labels = in.ID, labels
		s.Endpoints[in.Name], out = e, e
		return nil
	})
	return out, err
}
