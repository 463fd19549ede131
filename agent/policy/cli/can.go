package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/feature"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// right is one thing that the policy gives a user.
type right struct {
	To    string    `json:"to"` // an app and what of it, or a group
	At    string    `json:"at,omitempty"`
	From  string    `json:"from,omitempty"`
	Until time.Time `json:"until,omitzero"`
	By    string    `json:"by"`
}

// can lists the groups of a user and the grants that mean them.
func (p commands) can(ctx context.Context, user string) error {
	if user == "" {
		return apps.Usagef("missing USER, or --at EP for what you may reach there")
	}
	if !feature.Policies {
		return apps.Usagef("what the policy gives a user is not in this build of ztm: it comes with the feature \"policies\". With --at EP it lists what you may reach there")
	}
	if !apps.IsUser(user) {
		return apps.Usagef("%q is not the name of a user", user)
	}
	var s api.PolicySource
	if err := p.do(ctx, http.MethodGet, nil, &s, "source"); err != nil {
		return err
	}
	upTo, err := p.evicted(ctx, user)
	if err != nil {
		return err
	}
	rights, known := rightsOf(s.Source, user, upTo)
	if upTo != 0 {
		p.Note("user %s was evicted: what they were given before is void", user)
	}
	if !known {
		return &apps.HintError{Err: answer.Errorf(answer.NotFound, "no group and no grant of the policy names user %s", user),
			Hint: "what the rules of an endpoint let them reach is listed there: ztm who-can reach EP TARGET"}
	}
	t := &apps.Table{Header: []string{"GIVES", "AT", "FROM", "UNTIL", "BY"}}
	for _, r := range rights {
		t.Add(r.To, clip(r.At), clip(r.From), until(r.Until), r.By)
	}
	if s.Source.Mode != policy.Enforce {
		p.Note("grants are not enforced in this mesh: the rules of endpoints decide")
	}
	return p.Print(rights, t)
}

// evicted is up to when an eviction has ended what a user was given; 0: there is none.
func (p commands) evicted(ctx context.Context, user string) (upTo unixtime.Seconds, err error) {
	m, err := p.Mesh(ctx)
	if err != nil {
		return 0, err
	}
	var all []api.Eviction
	err = p.Do(ctx, http.MethodGet, api.EvictionsPath(m.Name), nil, &all)
	for _, e := range all {
		if e.User == user {
			upTo = max(upTo, unixtime.Of(e.Admitted))
		}
	}
	return upTo, err
}

// mayAt lists what the user of the chosen endpoint may reach at another.
func (p commands) mayAt(ctx context.Context, name string, user bool) error {
	if user {
		return apps.Usagef("--at is for yourself: of others it is told with ztm who-can reach")
	}
	ep, err := p.Resolve(ctx, name)
	if err != nil {
		return err
	}
	path, err := p.At(ctx, "policy", "can")
	if err != nil {
		return err
	}
	var out api.WhoCan
	if err := p.Do(ctx, http.MethodGet, path+"?of="+string(ep.ID), nil, &out); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"TARGET", "UNTIL", "BY"}}
	for _, r := range out.Rows {
		t.Add(r.To(), unixtime.Text(r.Until), r.Rule)
	}
	if len(out.Rows) == 0 {
		t.Header = nil
		t.Add("nothing that you may reach there is known by name")
	}
	return p.Print(out.Rows, t)
}

// rightsOf lists what a source gives a user, and reports whether it knows them. What has ended is in
// the list, with its end; what they were given until an eviction is not.
func rightsOf(s *policy.Source, user string, upTo unixtime.Seconds) (out []right, known bool) {
	end, known := s.Users[user]
	out = []right{}
	ends := map[string]unixtime.Seconds{user: 0, policy.Anybody: 0}
	for name, g := range s.Groups {
		if i := slices.IndexFunc(g.Members, func(m policy.Member) bool { return m.User == user && m.Added > upTo }); i >= 0 {
			ends[policy.GroupPrefix+name], known = g.Members[i].Until, true
			out = append(out, right{To: policy.GroupPrefix + name, Until: first(g.Members[i].Until, end.Until), By: "membership"})
		}
	}
	for _, g := range s.Grants {
		for _, w := range g.Who {
			until, means := ends[w.Name]
			if !means || w.Added != 0 && w.Added <= upTo {
				continue
			}
			for _, to := range g.To {
				out = append(out, right{to, strings.Join(g.At, " "), strings.Join(g.From, " "), first(until, g.Until, end.Until), fmt.Sprintf("grant %s, who: %s", g.Name, w.Name)})
			}
		}
	}
	slices.SortFunc(out, func(a, b right) int { return strings.Compare(a.By+a.To, b.By+b.To) })
	return out, known
}

// first is the earliest of some ends, of which 0 is none.
func first(ends ...unixtime.Seconds) (t time.Time) {
	for _, e := range ends {
		if at := e.Time().UTC(); e != 0 && (t.IsZero() || at.Before(t)) {
			t = at
		}
	}
	return t
}
