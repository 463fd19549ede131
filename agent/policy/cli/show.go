package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/console"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity/policy"
	"ztm/tunnel/unixtime"
)

// commands holds the Actions of the commands.
type commands struct{ *console.Console }

func (p commands) do(ctx context.Context, method string, in, out any, below ...string) error {
	path, err := p.At(ctx, append([]string{"policy"}, below...)...)
	if err != nil {
		return err
	}
	err = p.Do(ctx, method, path, in, out)
	if method != http.MethodGet && answer.CodeOf(err) == answer.Denied {
		return &apps.HintError{Err: err, Hint: "do it at an endpoint of root that holds the key, or from another of root's: ztm ep NAME group add ...; where there is none, join one with the root permit"}
	}
	return err
}

func (p commands) add(ctx context.Context, group string, users []string, until string, longest *time.Duration, reason string) error {
	if group == "" {
		return apps.Usagef("missing GROUP")
	}
	if len(users) == 0 && longest == nil {
		return apps.Usagef("missing USER, or --max for a group without members")
	}
	if len(users) == 0 && until != "" {
		return apps.Usagef("missing USER, whose membership --until ends")
	}
	in := api.GroupChange{Add: users, Reason: reason}
	if longest != nil {
		in.Max = new(apps.Duration(*longest))
	}
	if until != "" {
		end, err := apps.ParseEnd(until, time.Now())
		if err != nil {
			return &apps.UsageError{Err: fmt.Errorf("--until: %w", err)}
		}
		in.Until = end
		p.Note("until %s, in %s", unixtime.Text(end), time.Until(end).Round(time.Minute))
	}
	if err := p.CheckUsers(ctx, users); err != nil {
		return err
	}
	return p.change(ctx, group, in)
}

func (p commands) remove(ctx context.Context, group string, users []string, reason string) error {
	if group == "" {
		return apps.Usagef("missing GROUP")
	}
	return p.change(ctx, group, api.GroupChange{Remove: users, Delete: len(users) == 0, Reason: reason})
}

func (p commands) change(ctx context.Context, group string, in api.GroupChange) error {
	var out api.Group
	if err := p.do(ctx, http.MethodPost, in, &out, "groups", group); err != nil {
		return err
	}
	return p.Print(out, nil)
}

func (p commands) groups(ctx context.Context) (all []api.Group, err error) {
	return all, p.do(ctx, http.MethodGet, nil, &all, "groups")
}

func (p commands) list(ctx context.Context) error {
	all, err := p.groups(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"GROUP", "MEMBERS", "USERS"}}
	for _, g := range all {
		var users []string
		for _, m := range g.Members {
			if !slices.Contains(g.Void, m.User) && (m.Until == 0 || !over(m.Until.Time())) {
				users = append(users, m.User)
			}
		}
		t.Add(g.Name, fmt.Sprint(len(users)), clip(strings.Join(users, " ")))
	}
	return p.Print(all, t)
}

// clip is a list for a table.
func clip(s string) string {
	const most = 60
	if len(s) > most {
		return s[:most] + "..."
	}
	if s == "" {
		return "-"
	}
	return s
}

func (p commands) describe(ctx context.Context, name string) error {
	all, err := p.groups(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(g api.Group) bool { return g.Name == name })
	if i < 0 {
		return &apps.HintError{Err: answer.Errorf(answer.NotFound, "there is no group %s", name), Hint: "list them with: ztm group get"}
	}
	t := &apps.Table{Header: []string{"USER", "SINCE", "UNTIL"}}
	for _, m := range all[i].Members {
		ends := end(m.Until)
		if slices.Contains(all[i].Void, m.User) {
			ends = "evicted"
		}
		t.Add(m.User, unixtime.Text(m.Added.Time()), ends)
	}
	return p.Print(all[i], t)
}

func end(seconds unixtime.Seconds) string {
	if seconds == 0 {
		return "-"
	}
	return until(seconds.Time())
}

// until is an end for people: one that has come says so.
func until(t time.Time) string {
	if over(t) {
		return unixtime.Text(t) + " (over)"
	}
	return unixtime.Text(t)
}

func over(t time.Time) bool { return !t.IsZero() && !t.After(time.Now()) }

func (p commands) status(ctx context.Context) error {
	var s api.Policy
	if err := p.do(ctx, http.MethodGet, nil, &s); err != nil {
		return err
	}
	t := &apps.Table{}
	mode := map[string]string{"": "groups: the rules of endpoints decide", "observe": "observe: grants decide nothing yet", "enforce": "enforce: grants decide, and rules of endpoints narrow them"}[s.Mode]
	state := "in force"
	switch {
	case s.Version == 0:
		mode, state = "-", "there is none"
	case s.Stale:
		state = "a newer version is in force in the mesh, and not here: nobody is let in by what is here"
	case !s.InForce:
		state = "is being fetched"
	}
	for _, row := range [][]string{{"Version", fmt.Sprint(s.Version)}, {"Mode", mode}, {"Direct", cmp.Or(s.Direct, "auto")}, {"State", state}, {"Issued", unixtime.Text(s.Issued)},
		{"Labels", clip(strings.Join(s.Labels, " "))}, {"Unknown", clip(strings.Join(s.Unknown, " "))}} {
		t.Add(row...)
	}
	if len(s.Unconfirmed) > 0 {
		t.Add("Unconfirmed", clip(strings.Join(s.Unconfirmed, " ")))
	}
	return p.Print(s, t)
}

// direct sets how far all endpoints may go without a hub.
func (p commands) direct(ctx context.Context, word string) error {
	switch word {
	case "auto":
		word = ""
	case "lan", "off":
	default:
		return apps.Usagef("missing auto, lan or off")
	}
	return p.do(ctx, http.MethodPost, api.DirectChange{Direct: word}, nil, "direct")
}

// grants lists the grants that are for an endpoint.
func (p commands) grants(ctx context.Context) error {
	var all []policy.Given
	if err := p.do(ctx, http.MethodGet, nil, &all, "grants"); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"GRANT", "WHO", "TO", "FROM", "UNTIL"}}
	for _, g := range all {
		var who []string
		for _, w := range g.Who {
			who = append(who, w.Name)
		}
		t.Add(g.Name, clip(strings.Join(who, " ")), clip(strings.Join(g.To, " ")), clip(strings.Join(g.From, " ")), end(g.Until))
	}
	if len(all) == 0 {
		t.Header = nil
		t.Add("the policy has no grants for this endpoint")
	}
	return p.Print(all, t)
}

func (p commands) label(ctx context.Context, name string, labels []string, remove, repin bool) error {
	if name == "" || len(labels) == 0 {
		return apps.Usagef("missing NAME or LABEL")
	}
	ep, err := p.EndpointNamed(ctx, name)
	if err != nil {
		return err
	}
	in := api.LabelChange{Name: ep.Name, ID: ep.ID, Add: labels, Repin: repin}
	if remove {
		in.Add, in.Remove = nil, labels
	}
	var out any
	err = p.do(ctx, http.MethodPost, in, &out, "labels")
	if answer.CodeOf(err) == answer.Conflict {
		return &apps.HintError{Err: err, Hint: "if its owner says that this is right: --repin"}
	}
	if err != nil {
		return err
	}
	return p.Print(out, nil)
}

func (p commands) whoCan(ctx context.Context, name, target string) error {
	if name == "" || target == "" {
		return apps.Usagef("missing EP or TARGET")
	}
	ep, err := p.Resolve(ctx, name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(target, "tcp/") || strings.HasPrefix(target, "udp/") {
		target = "tunnel/" + target
	}
	out, err := p.askWhoCan(ctx, ep, target)
	switch answer.CodeOf(err) {
	case answer.Denied:
		return &apps.HintError{Err: err, Hint: "what you may reach there yourself says: ztm can --at " + ep.Name}
	case answer.NotFound:
		return &apps.HintError{Err: err, Hint: "a target is such as tcp/NAME, tunnel/forward/HOST:PORT, proxy/HOST:PORT, file/read or terminal"}
	}
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"USER", "CAN", "UNTIL", "BY"}}
	for _, r := range out.Rows {
		can := "no"
		switch {
		case r.Allow && (out.Bound || r.From != ""):
			can = "perhaps"
		case r.Allow:
			can = "yes"
		}
		t.Add(r.User, can, unixtime.Text(r.Until), r.Rule+from(r))
	}
	for _, r := range out.Also {
		t.Add(r.User, "also", unixtime.Text(r.Until), "has "+r.To()+" there, and what that reaches: "+r.Rule+from(r))
	}
	if out.Bound {
		p.Warn("endpoint %s does not answer: this is whom version %d of the policy would let; the rules of its owner are not known here", ep.Name, out.Policy)
	} else {
		p.Note("asked %s, which has version %d of the policy and %d of the trust list", ep.Name, out.Policy, out.Trust)
	}
	return p.Print(out, t)
}

// from says which endpoints of a user alone can.
func from(r api.Access) string {
	if r.From == "" {
		return ""
	}
	return ", from " + r.From
}

// askWhoCan asks an endpoint. Of one that cannot be asked the chosen endpoint says whom the policy would
// let, if it holds the CA key.
func (p commands) askWhoCan(ctx context.Context, ep apps.Endpoint, target string) (out api.WhoCan, err error) {
	q := url.Values{"target": {target}}
	m, err := p.Mesh(ctx)
	if err != nil {
		return out, err
	}
	err = p.Do(ctx, http.MethodGet, api.PolicyPath(m.Name, ep.ID, "who-can")+"?"+q.Encode(), nil, &out)
	switch answer.CodeOf(err) {
	case "", answer.NotFound, answer.BadRequest, answer.Denied:
		return out, err
	}
	q.Set("of", string(ep.ID))
	if p.Do(ctx, http.MethodGet, api.PolicyPath(m.Name, m.Agent.ID, "who-can")+"?"+q.Encode(), nil, &out) != nil {
		return out, err
	}
	return out, nil
}
