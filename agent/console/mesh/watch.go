package mesh

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/identity"
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
	hops := []api.Hop{}
	if err := c.about(ctx, name, "ping", &hops); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"TYPE", "NAME", "DURATION", "ERROR", "ID"}, Wide: 1}
	failed := false
	for _, h := range hops {
		duration := milliseconds(h.RTT)
		if h.Error != "" {
			duration, failed = "-", true
		}
		t.Add(h.Type, h.Name, duration, h.Error, string(h.ID))
	}
	if err := c.Print(hops, t); err != nil {
		return err
	}
	if failed {
		return errors.New("the endpoint was not reached")
	}
	return nil
}

func (c commands) stats(ctx context.Context, name string) error {
	var s api.Stats
	if err := c.about(ctx, name, "stats", &s); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"PEER", "SEND", "RECEIVE", "FLOWS", "ID"}, Wide: 1}
	ids := slices.SortedFunc(maps.Keys(s.Peers), func(a, b identity.ID) int {
		return cmp.Or(cmp.Compare(s.Peers[a].Name, s.Peers[b].Name), cmp.Compare(a, b))
	})
	for _, id := range ids {
		p := s.Peers[id]
		t.Add(cmp.Or(p.Name, string(id)), amount(p.Sent), amount(p.Received), strconv.Itoa(p.Flows), string(id))
	}
	t.Add("(All Peers)", amount(s.Sent), amount(s.Received), strconv.Itoa(s.Flows), "")
	return c.Print(s, t)
}

func (c commands) log(ctx context.Context, name string) error {
	entries := []api.LogEntry{}
	if err := c.about(ctx, name, "log", &entries); err != nil {
		return err
	}
	t := &apps.Table{}
	for _, e := range entries {
		t.Add(e.Time.UTC().Format(time.RFC3339), e.Level, e.Message)
	}
	return c.Print(entries, t)
}

// label changes the labels of the chosen endpoint if it is told to, and shows them.
func (c commands) label(ctx context.Context, add, remove []string) error {
	ep, err := c.Endpoint(ctx)
	if err != nil {
		return err
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	path := api.EndpointPath(m.Name, ep.ID, "labels")
	labels := []string{}
	if err := c.Do(ctx, http.MethodGet, path, nil, &labels); err != nil {
		return err
	}
	if len(add)+len(remove) > 0 {
		labels = slices.DeleteFunc(append(labels, add...), func(l string) bool { return slices.Contains(remove, l) })
		slices.Sort(labels)
		labels = slices.Compact(labels)
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
