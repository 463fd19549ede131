package cli

import (
	"context"
	"net/http"
	"sync"

	"ztm/agent/api"
	"ztm/agent/policy/file"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity/policy"
)

// asking is how many endpoints are asked at once.
const asking = 16

// adopt prints a policy file that gives everybody what the rules of endpoints let them reach. Without
// names it asks all that are online.
func (c commands) adopt(ctx context.Context, names []string) error {
	in, _, err := c.source(ctx)
	if err != nil {
		return err
	}
	if in.Source.Mode == policy.Enforce && len(names) == 0 {
		return apps.Usagef("grants are enforced: name each EP whose rules are to be added")
	}
	eps, err := c.named(ctx, names)
	if err != nil {
		return err
	}
	owned, err := c.rules(ctx, eps)
	if err != nil {
		return err
	}
	next, left, err := file.Adopt(in.Source, owned)
	if err != nil {
		return err
	}
	b, err := file.Write(next, in.Version)
	if err != nil {
		return err
	}
	for _, l := range left {
		c.Warn("%s", l)
	}
	c.Note("the rules of %d of %d endpoints are in it", len(owned), len(eps))
	_, err = c.Stdout().Write(b)
	return err
}

// named are the endpoints of some names; without names, all of the mesh.
func (c commands) named(ctx context.Context, names []string) (eps []apps.Endpoint, err error) {
	if len(names) == 0 {
		return c.Endpoints(ctx, apps.Filter{})
	}
	for _, name := range names {
		ep, err := c.Resolve(ctx, name)
		if err != nil {
			return nil, err
		}
		eps = append(eps, ep)
	}
	return eps, nil
}

// rules asks endpoints for their rules, some at a time. Who does not answer is not in the list.
func (c commands) rules(ctx context.Context, eps []apps.Endpoint) (out []file.Owned, err error) {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil, err
	}
	all, failed := make([][]api.Rule, len(eps)), make([]error, len(eps))
	places := make(chan struct{}, asking)
	var work sync.WaitGroup
	for i, ep := range eps {
		if !ep.Online && !ep.Local {
			failed[i] = answer.Errorf(answer.Unavailable, "it is offline")
			continue
		}
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			failed[i] = c.Do(ctx, http.MethodGet, api.PolicyPath(m.Name, ep.ID, "rules"), nil, &all[i])
		})
	}
	work.Wait()
	for i, ep := range eps {
		if failed[i] != nil {
			c.Warn("endpoint %s does not say its rules, and no grant is for it: only user %s will reach it: %v", ep.Name, ep.User, failed[i])
			continue
		}
		e := file.Owned{Name: ep.Name, ID: ep.ID, Rules: map[string][]string{}}
		for _, r := range all[i] {
			e.Rules[r.To] = r.Who
		}
		out = append(out, e)
	}
	return out, nil
}
