package mesh

import (
	"cmp"
	"context"
	"fmt"
	"net/http"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// evict refuses a user whom the mesh does not know unless force is set: the trust list keeps each
// eviction, a slip too.
func (c commands) evict(ctx context.Context, user string, force bool, reason string) error {
	if err := identity.CheckName(user); err != nil {
		return &apps.UsageError{Err: fmt.Errorf("user: %w", err)}
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	out, err := c.askEviction(ctx, api.EvictPath(m.Name, user, force, reason))
	if answer.CodeOf(err) == answer.NotFound {
		return &apps.HintError{Err: err, Hint: "see who is in the mesh with: ztm get user; a user who holds an unused permit, or whom the directory has lost, is evicted with --force"}
	}
	if err != nil {
		return err
	}
	if err := c.evicted(out, user, m.Name); err != nil {
		return err
	}
	if out.Endpoints == 0 && !out.Already {
		c.Warn("no endpoint of %s is in the mesh: this voids permits that were not used yet, if there are any", user)
	}
	return c.Print(out, nil)
}

func (c commands) evictEndpoint(ctx context.Context, name string, force bool, reason string) error {
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	id, err := identity.ParseID(name)
	if err != nil {
		found, err := c.EndpointNamed(ctx, name)
		if err != nil {
			return err
		}
		id = found.ID
	}
	out, err := c.askEviction(ctx, api.EvictDevicePath(m.Name, id, false, force, reason))
	if answer.CodeOf(err) == answer.NotFound {
		return &apps.HintError{Err: err, Hint: "see who is in the mesh with: ztm get ep; an ID that the directory has lost is evicted with --force"}
	}
	if err != nil {
		return err
	}
	if err := c.evicted(out, "endpoint "+name, m.Name); err != nil {
		return err
	}
	return c.Print(out, nil)
}

func (c commands) evictHub(ctx context.Context, name, reason string) error {
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	id, err := identity.ParseID(name)
	if err != nil {
		hubs, err := c.hubs(ctx, name)
		if err != nil {
			return err
		}
		if id = hubs[0].ID; id == "" {
			return &apps.HintError{Err: fmt.Errorf("the ID of hub %s is not known here", name), Hint: "give its ID, which it logs when it starts"}
		}
	}
	out, err := c.askEviction(ctx, api.EvictDevicePath(m.Name, id, true, true, reason))
	if err != nil {
		return err
	}
	if err := c.evicted(out, "hub "+name, m.Name); err != nil {
		return err
	}
	return c.Print(out, nil)
}

func (c commands) askEviction(ctx context.Context, path string) (out api.Evicted, err error) {
	err = c.Do(ctx, http.MethodDelete, path, nil, &out)
	return out, err
}

// evicted says what an eviction has done.
func (c commands) evicted(out api.Evicted, whom, mesh string) error {
	if out.Already {
		c.Note("%s was evicted from %s before, and has not been invited since", whom, mesh)
		return nil
	}
	c.Note("evicted %s from %s", whom, mesh)
	if out.Refused != "" {
		c.Warn("NO HUB HAS TAKEN THIS EVICTION: it is in force here, goes from endpoint to endpoint, and is offered to the hubs again. "+
			"A hub that refuses it may have been taken over. It says: %s", out.Refused)
	}
	return nil
}

// getEvicted lists what the trust list holds.
func (c commands) getEvicted(ctx context.Context) error {
	all, err := c.evictions(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"KIND", "NAME", "USER", "EVICTED", "BY", "REASON", "ID"}, Wide: 1}
	for _, e := range all {
		kind, name, user := "user", e.User, e.User
		switch {
		case e.Hub:
			kind, name, user = "hub", string(e.ID), "-"
		case e.ID != "":
			kind, name, user = "endpoint", e.Name, cmp.Or(e.Owner, "-")
		}
		if name == "" {
			name = string(e.ID)
		}
		t.Add(kind, name, user, unixtime.Text(e.At), by(e), cmp.Or(e.Reason, "-"), cmp.Or(string(e.ID), "-"))
	}
	return c.Print(all, t)
}

// by names the endpoint that evicted somebody.
func by(e api.Eviction) string {
	if e.ByName != "" {
		return e.ByName
	}
	return cmp.Or(string(e.By), "-")
}

func (c commands) evictions(ctx context.Context) ([]api.Eviction, error) {
	path, err := c.View(ctx, "evictions")
	if err != nil {
		return nil, err
	}
	all := []api.Eviction{}
	return all, c.Do(ctx, http.MethodGet, path, nil, &all)
}
