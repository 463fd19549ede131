package kube

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/tunnel/pause"
)

const (
	// conditionType is our condition in the status of a Service.
	conditionType = "ztm.dev/Ready"
	// conditionEvery is the pace of writing them.
	conditionEvery = 50 * time.Millisecond
)

// conditions keeps a condition in the status of each Service that asks for something. Replicas
// agree: what says the same is not written again.
type conditions struct {
	client *cluster.Client
	log    *slog.Logger

	mu      sync.Mutex
	todo    map[string]*cluster.Condition // by path; nil takes it away; guarded by mu
	written map[string]time.Time          // by path: the watch tells it a little later; guarded by mu
	wake    chan struct{}
}

func newConditions(c *cluster.Client, log *slog.Logger) *conditions {
	return &conditions{client: c, log: log, written: map[string]time.Time{}, wake: make(chan struct{}, 1)}
}

// tell compares what notes say with what Services have.
func (c *conditions) tell(notes []*asked.Note, services []cluster.Service) {
	want := map[string]*cluster.Condition{}
	for _, n := range notes {
		path := statusPath(n.Service)
		want[path] = joined(want[path], n)
	}
	todo := map[string]*cluster.Condition{}
	for _, s := range services {
		path := statusPath(s.Meta)
		if !s.Status.Ours(conditionType).Same(want[path]) {
			todo[path] = want[path]
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.todo = todo
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func statusPath(s cluster.Meta) string {
	return "/api/v1/namespaces/" + s.Namespace + "/services/" + s.Name + "/status"
}

// joined adds a note to what a condition says. A warning makes it false and comes first.
func joined(c *cluster.Condition, n *asked.Note) *cluster.Condition {
	status := map[bool]string{true: "False", false: "True"}[n.Warns()]
	switch {
	case c == nil:
		return &cluster.Condition{Type: conditionType, Status: status, Reason: n.Reason, Message: short(n.Message)}
	case n.Warns() && c.Status == "True":
		return &cluster.Condition{Type: conditionType, Status: status, Reason: n.Reason, Message: short(n.Message + "; " + c.Message)}
	}
	c.Message = short(c.Message + "; " + n.Message)
	return c
}

// run writes what is to be written, until ctx ends.
func (c *conditions) run(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for path, condition, ok := c.next(); ok; path, condition, ok = c.next() {
			c.write(ctx, path, condition)
			if !pause.For(ctx, conditionEvery) {
				return
			}
		}
	}
}

// next takes one of what is to be written. What was written a moment ago waits for the watch.
func (c *conditions) next() (path string, condition *cluster.Condition, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, condition := range c.todo {
		delete(c.todo, path)
		if time.Since(c.written[path]) >= settled {
			c.written[path] = time.Now()
			return path, condition, true
		}
	}
	for path, at := range c.written {
		if time.Since(at) >= settled {
			delete(c.written, path)
		}
	}
	return "", nil, false
}

func (c *conditions) write(ctx context.Context, path string, condition *cluster.Condition) {
	parts := strings.Split(path, "/") // "", api, v1, namespaces, NAMESPACE, services, NAME, status
	list := []any{}
	if condition != nil {
		list = append(list, map[string]string{"type": condition.Type, "status": condition.Status, "reason": condition.Reason, "message": condition.Message,
			"lastTransitionTime": time.Now().UTC().Format(time.RFC3339)})
	}
	in := map[string]any{"apiVersion": "v1", "kind": "Service", "metadata": map[string]string{"name": parts[6], "namespace": parts[4]}, "status": map[string]any{"conditions": list}}
	err := c.client.Do(ctx, http.MethodPatch, path, url.Values{"fieldManager": {"ztm"}, "force": {"true"}}, "application/apply-patch+yaml", in, nil)
	if err != nil && cmp.Or(cluster.CodeOf(err), http.StatusNotFound) != http.StatusNotFound {
		c.log.Warn("cannot write a condition", "service", parts[4]+"/"+parts[6], "err", err)
	}
}
