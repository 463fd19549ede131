package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"ztm/apps"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/identity"
)

// Change is what `ztm apply` does, or would do, to one end of a tunnel or one rule.
type Change struct {
	Endpoint string `json:"endpoint"`
	Kind     string `json:"kind"` // "outbound", "inbound" or "allow"
	Name     string `json:"name"` // of the tunnel, or the target of the rule
	Action   Action `json:"action"`
	Error    string `json:"error,omitempty"` // why it was not done

	id   identity.ID
	body any // of the POST; nil for a removal
}

// Action is what is done.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "change"
	Keep   Action = "keep"
	Remove Action = "remove"
)

// wanted is what a manifest wants of one endpoint.
type wanted struct {
	endpoint apps.Endpoint
	inbound  []spec.Inbound
	outbound []spec.Outbound
	allow    []spec.Allow
}

// apply makes the tunnels what a file says: at all endpoints that it names, or with prune nothing
// but what it says. It changes nothing unless all of the file makes sense.
func (c *client) apply(ctx context.Context, file string, prune, dryRun bool) error {
	in, err := apps.Input(c.Stdin(), file)
	if err != nil {
		return err
	}
	defer in.Close()
	file = apps.InputName(file)
	m, err := readManifest(in)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	plan, err := c.plan(ctx, m, prune)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := c.CheckUsers(ctx, m.users()); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	var failures []error
	t := &apps.Table{Header: []string{"ENDPOINT", "KIND", "NAME", "ACTION"}}
	for i := range plan {
		ch := &plan[i]
		result := string(ch.Action)
		if !dryRun {
			if err := c.do(ctx, ch); err != nil {
				ch.Error = err.Error()
				result += " failed: " + ch.Error
				failures = append(failures, fmt.Errorf("endpoint %s: %w", ch.Endpoint, err))
			}
		}
		t.Add(ch.Endpoint, ch.Kind, ch.Name, result)
	}
	return errors.Join(append(failures, c.Print(plan, t))...)
}

// plan compares a manifest with what there is. Outbounds come before inbounds, removals last.
func (c *client) plan(ctx context.Context, m Manifest, prune bool) ([]Change, error) {
	list, err := c.sort(ctx, m)
	if err != nil {
		return nil, err
	}
	var all, removals []Change
	for _, w := range list {
		var now tunnel.Status
		if err := c.CallAt(ctx, w.endpoint.ID, http.MethodGet, spec.AppName+"/tunnels", nil, &now); err != nil {
			return nil, fmt.Errorf("endpoint %s: %w", w.endpoint.Name, err)
		}
		changes, rest := w.compare(now)
		all = append(all, changes...)
		if prune {
			removals = append(removals, rest...)
		}
	}
	plan := []Change{}
	for _, kind := range []string{"outbound", "allow", "inbound"} {
		for _, c := range all {
			if c.Kind == kind {
				plan = append(plan, c)
			}
		}
	}
	return append(plan, removals...), nil
}

// sort resolves and checks a manifest, and sorts it by endpoint.
func (c *client) sort(ctx context.Context, m Manifest) ([]*wanted, error) {
	local, err := c.Resolve(ctx, "")
	if err != nil {
		return nil, err
	}
	var list []*wanted
	at := func(name string) (*wanted, error) {
		ep, err := c.Resolve(ctx, name)
		switch {
		case name == "":
			return nil, errors.New("an endpoint is missing")
		case err != nil:
			return nil, err
		case ep.User != local.User:
			return nil, fmt.Errorf("endpoint %s belongs to user %s", ep.Name, ep.User)
		}
		i := slices.IndexFunc(list, func(w *wanted) bool { return w.endpoint.ID == ep.ID })
		if i < 0 {
			i = len(list)
			list = append(list, &wanted{endpoint: ep})
		}
		return list[i], nil
	}
	for _, t := range m.Tunnels {
		if err := c.sortTunnel(ctx, t, at); err != nil {
			return nil, fmt.Errorf("tunnel %q: %w", t.Name, err)
		}
	}
	for _, rule := range m.Allow {
		w, err := at(rule.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("allow %s: %w", rule.Target, err)
		}
		if rule.Target.String() == "" || len(rule.Users) == 0 {
			return nil, fmt.Errorf("allow at %s: a rule has a target and users", rule.Endpoint)
		}
		if slices.ContainsFunc(w.allow, func(x spec.Allow) bool { return x.Target.String() == rule.Target.String() }) {
			return nil, fmt.Errorf("allow at %s: %s is there twice", rule.Endpoint, rule.Target)
		}
		if err := spec.ValidateUsers(rule.Users); err != nil {
			return nil, fmt.Errorf("allow %s at %s: users: %w", rule.Target, rule.Endpoint, err)
		}
		w.allow = append(w.allow, rule.Allow)
	}
	return list, nil
}

func (c *client) sortTunnel(ctx context.Context, t ManifestTunnel, at func(string) (*wanted, error)) error {
	k, err := spec.ParseKey(t.Name)
	if err != nil {
		return err
	}
	for _, e := range t.Inbound {
		w, err := at(e.Endpoint)
		if err != nil {
			return err
		}
		in := spec.Inbound{Key: k, InboundSpec: e.InboundSpec}
		if in.Exits, err = c.resolveIDs(ctx, in.Exits); err == nil {
			err = in.Validate()
		}
		if err != nil {
			return fmt.Errorf("at %s: %w", e.Endpoint, err)
		}
		if slices.ContainsFunc(w.inbound, func(x spec.Inbound) bool { return x.Key == k }) {
			return fmt.Errorf("inbound at %s is there twice", e.Endpoint)
		}
		w.inbound = append(w.inbound, in)
	}
	for _, e := range t.Outbound {
		w, err := at(e.Endpoint)
		if err != nil {
			return err
		}
		o := spec.Outbound{Key: k, OutboundSpec: e.OutboundSpec}
		if o.Entrances, err = c.resolveIDs(ctx, o.Entrances); err == nil {
			err = o.Validate()
		}
		if err != nil {
			return fmt.Errorf("at %s: %w", e.Endpoint, err)
		}
		if slices.ContainsFunc(w.outbound, func(x spec.Outbound) bool { return x.Key == k }) {
			return fmt.Errorf("outbound at %s is there twice", e.Endpoint)
		}
		w.outbound = append(w.outbound, o)
	}
	return nil
}

// resolveIDs makes IDs of what may be names.
func (c *client) resolveIDs(ctx context.Context, list []identity.ID) ([]identity.ID, error) {
	names := make([]string, len(list))
	for i, id := range list {
		names[i] = string(id)
	}
	return c.resolve(ctx, names)
}

// compare says what is to be done at an endpoint, and what there is beyond what is wanted.
func (w *wanted) compare(now tunnel.Status) (changes, rest []Change) {
	var have, want []Change
	for _, o := range now.Outbound {
		have = append(have, w.change("outbound", o.Key.String(), o.Outbound))
	}
	for _, in := range now.Inbound {
		have = append(have, w.change("inbound", in.Key.String(), in.Inbound))
	}
	for _, rule := range now.Allow {
		have = append(have, w.change("allow", rule.Target.String(), rule))
	}
	for _, o := range w.outbound {
		want = append(want, w.change("outbound", o.Key.String(), o))
	}
	for _, in := range w.inbound {
		want = append(want, w.change("inbound", in.Key.String(), in))
	}
	for _, rule := range w.allow {
		want = append(want, w.change("allow", rule.Target.String(), rule))
	}
	same := func(a Change) func(Change) bool {
		return func(b Change) bool { return a.Kind == b.Kind && a.Name == b.Name }
	}
	for _, ch := range want {
		switch i := slices.IndexFunc(have, same(ch)); {
		case i < 0:
			ch.Action = Create
		case equalJSON(have[i].body, ch.body):
			ch.Action = Keep
		default:
			ch.Action = Update
		}
		changes = append(changes, ch)
	}
	for _, ch := range have {
		if !slices.ContainsFunc(want, same(ch)) {
			ch.Action, ch.body = Remove, nil
			rest = append(rest, ch)
		}
	}
	return changes, rest
}

func (w *wanted) change(kind, name string, body any) Change {
	return Change{Endpoint: w.endpoint.Name, Kind: kind, Name: name, id: w.endpoint.ID, body: body}
}

// equalJSON compares two configurations as they are written, so that a list that is empty equals
// one that is missing.
func equalJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && string(x) == string(y)
}

// do makes one change.
func (c *client) do(ctx context.Context, ch *Change) error {
	method, path, body := http.MethodPost, spec.AppName+"/"+ch.Kind+"/"+ch.Name, ch.body
	switch {
	case ch.Action == Keep:
		return nil
	case ch.Kind == "allow":
		path = spec.AppName + "/allow"
		if ch.Action == Remove {
			body = map[string]string{"target": ch.Name}
		}
	case ch.Action == Remove:
		method = http.MethodDelete
	}
	return c.CallAt(ctx, ch.id, method, path, body, nil)
}
