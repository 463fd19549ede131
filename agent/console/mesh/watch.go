package mesh

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// about asks for something that belongs to an endpoint: the chosen one where name is empty.
func (c commands) about(ctx context.Context, name, below string, out any) error {
	ep, err := c.EndpointNamed(ctx, name)
	if err != nil {
		return err
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	return c.Do(ctx, http.MethodGet, api.EndpointPath(m.Name, ep.ID, below), nil, out)
}

// ping fails, after it has shown which, if a step of the way failed.
func (c commands) ping(ctx context.Context, name string) error {
	path, err := c.pingPath(ctx, name)
	if err != nil {
		return err
	}
	hops := []api.Hop{}
	if err := c.Do(ctx, http.MethodGet, path, nil, &hops); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"TYPE", "NAME", "DURATION", "PATH", "ERROR", "ID"}, Wide: 1}
	failed := false
	for _, h := range hops {
		duration := milliseconds(h.RTT)
		if h.Error != "" {
			duration, failed = "-", true
		}
		path := ""
		if h.Route != nil {
			path = pathOf(*h.Route)
		}
		t.Add(h.Type, h.Name, duration, path, h.Error, string(h.ID))
	}
	if err := c.Print(hops, t); err != nil {
		return err
	}
	if failed {
		return errors.New("the endpoint was not reached")
	}
	return nil
}

// pingPath measures from the endpoint that the `ep` prefix chose, or else from here. Without a name
// the way ends here.
func (c commands) pingPath(ctx context.Context, name string) (string, error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return "", err
	}
	to, err := c.Resolve(ctx, name)
	if err != nil || !c.Chosen() {
		return api.EndpointPath(m.Name, to.ID, "ping"), err
	}
	from, err := c.Endpoint(ctx)
	return api.EndpointPath(m.Name, from.ID, "ping", string(to.ID)), err
}

func (c commands) stats(ctx context.Context, name string) error {
	var s api.Stats
	if err := c.about(ctx, name, "stats", &s); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"PEER", "SEND", "RECEIVE", "ACTIVE", "ID"}, Wide: 1}
	ids := slices.SortedFunc(maps.Keys(s.Peers), func(a, b identity.ID) int {
		return cmp.Or(cmp.Compare(s.Peers[a].Name, s.Peers[b].Name), cmp.Compare(a, b))
	})
	for _, id := range ids {
		p := s.Peers[id]
		t.Add(cmp.Or(p.Name, string(id)), apps.Amount(int64(p.Sent)), apps.Amount(int64(p.Received)), strconv.Itoa(p.Active), string(id))
	}
	t.Add("(All Peers)", apps.Amount(int64(s.Sent)), apps.Amount(int64(s.Received)), strconv.Itoa(s.Active), "")
	return c.Print(s, t)
}

func (c commands) log(ctx context.Context, name string) error {
	entries := []api.LogEntry{}
	if err := c.about(ctx, name, "log", &entries); err != nil {
		return err
	}
	t, names := &apps.Table{}, c.names(ctx, entries)
	for _, e := range entries {
		t.Add(unixtime.Text(e.Time), e.Level, e.Message+attributes(e.Attrs, names))
	}
	return c.Print(entries, t)
}

// names returns the names of the endpoints that lines are about, as far as the directory knows
// them.
func (c commands) names(ctx context.Context, entries []api.LogEntry) map[string]string {
	names := map[string]string{}
	if c.Structured() || !slices.ContainsFunc(entries, func(e api.LogEntry) bool { return len(e.Attrs) > 0 }) {
		return names
	}
	eps, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return names // the IDs are right without them
	}
	for _, ep := range eps {
		names[string(ep.ID)] = ep.Name
	}
	return names
}

// attributes shows what a line is about, an endpoint by its name and its ID.
func attributes(attrs, names map[string]string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		value := attrs[key]
		if name := names[value]; name != "" {
			value = name + "/" + value
		}
		if value == "" || strings.ContainsAny(value, " \t\n\"") {
			value = strconv.Quote(value)
		}
		b.WriteString(" " + key + "=" + value)
	}
	return b.String()
}

// label changes the labels of the chosen endpoint, if there is a change, and shows them.
func (c commands) label(ctx context.Context, add, remove []string) error {
	path, err := c.At(ctx, "labels")
	if err != nil {
		return err
	}
	labels := []string{}
	if err := c.Do(ctx, http.MethodGet, path, nil, &labels); err != nil {
		return err
	}
	if len(add)+len(remove) > 0 {
		for _, l := range add {
			if err := identity.CheckLabel(l); err != nil {
				return &apps.UsageError{Err: err}
			}
		}
		if labels, err = apps.Changed("label", labels, add, remove); err != nil {
			return err
		}
		if err := c.Do(ctx, http.MethodPost, path, labels, nil); err != nil {
			return err
		}
	}
	slices.Sort(labels)
	t := &apps.Table{}
	for _, l := range labels {
		t.Add(l)
	}
	return c.Print(labels, t)
}
