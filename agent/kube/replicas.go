package kube

import (
	"context"
	"maps"
	"slices"
	"time"

	"ztm/agent/kube/cluster"
	"ztm/agent/kube/imports"
)

// replicas returns the pods of this agent, by UID, and whether each is ready. The slices of the
// agent's own Service tell it. If this pod is not among them they say nothing.
func (i *importer) replicas(there []cluster.Slice) map[string]bool {
	ready := map[string]bool{}
	for _, s := range there {
		if s.Namespace+"/"+s.Labels[cluster.LabelService] != i.Replicas || s.Labels[cluster.LabelManagedBy] != cluster.Controller {
			continue
		}
		for _, e := range s.Endpoints {
			if e.Target != nil { // a pod with two families of addresses is in two slices
				ready[e.Target.UID] = ready[e.Target.UID] || e.Conditions.IsServing()
			}
		}
	}
	if _, ok := ready[i.Rules.Pod.UID]; !ok {
		return nil
	}
	return ready
}

// yields reports whether this pod leaves imports to another replica: it is not ready, and that is.
func (i *importer) yields(ready map[string]bool) bool {
	return !ready[i.Rules.Pod.UID] && slices.Contains(slices.Collect(maps.Values(ready)), true)
}

// bury removes slices of replicas that are gone or not ready. A pod judges others only while it is
// ready itself: what keeps all of them from being ready is no reason.
func (i *importer) bury(ctx context.Context, ready map[string]bool, there []cluster.Slice) error {
	if !ready[i.Rules.Pod.UID] {
		clear(i.missing)
		return nil
	}
	dead := map[string]time.Time{}
	defer func() { i.missing = dead }()
	for _, s := range there {
		uid := podOf(s)
		if s.Labels[cluster.LabelManagedBy] != imports.Manager || uid == "" || ready[uid] {
			continue
		}
		since, known := i.missing[uid]
		if !known {
			since = time.Now()
		}
		dead[uid] = since
		if time.Since(since) >= absent {
			if err := i.remove(ctx, s); err != nil {
				return err
			}
		}
	}
	return nil
}
