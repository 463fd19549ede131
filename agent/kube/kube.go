// Package kube is an agent in a Kubernetes cluster: what Services ask for becomes outbounds of the
// tunnel app, and what they import becomes inbounds and EndpointSlices.
//
//	cluster.Follow  Services, EndpointSlices, Namespaces, into caches
//	-> expose.Compute, imports.Compute  which outbounds and inbounds they ask for
//	-> publish  the whole set, in one call of the agent's API   kube.go
//	-> importer  slices that lead to the inbounds               importer.go
//	-> events   what happened, on each Service                  events.go
//	health.go   what the kubelet asks: alive, and ready
//
// It needs no leader: each replica works out the same from the same objects, and offers it as an
// endpoint of its own. It makes, changes and deletes no Service.
package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"sync"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/agent/kube/expose"
	"ztm/agent/kube/imports"
	"ztm/tunnel/pause"
	"ztm/tunnel/unixtime"
)

const (
	// settle is how long changes are gathered before they are put in force together.
	settle = 100 * time.Millisecond
	// again is how often the same set is said again: whoever keeps it may have started anew.
	again = 30 * time.Second
	// retry is how long a failed call waits.
	retry = time.Second
	// refused is how long the API server may refuse this account until what is exposed is withdrawn:
	// that is a decision, and not an outage.
	refused = time.Minute
	// look is how often what no change tells is looked at.
	look = 5 * time.Second
)

// Config is what a cluster is watched with. All but Namespaces is required.
type Config struct {
	Client     *cluster.Client
	Namespaces []string // empty: all
	Conditions bool     // the status of a Service says what became of it
	Exports    bool     // Services that a ServiceExport of the multi-cluster API names are exposed
	Rules      expose.Rules
	Importing  Importing
	// Derive makes a set the whole of what is derived from this cluster.
	Derive func(ctx context.Context, set Set) (Refusals, error)
	Log    *slog.Logger
}

// Set is what is derived from a cluster, as the tunnel app's API has it.
type Set struct {
	Outbound []expose.Outbound `json:"outbound"`
	Inbound  []Inbound         `json:"inbound,omitempty"`
}

// Refusals say which ends of a [Set] are not in force, and why, by key.
type Refusals struct {
	Outbound map[string]string `json:"refused"`
	Inbound  map[string]string `json:"refusedInbound"`
}

// Controller watches one cluster. Make it with [New], then [Controller.Run] it once.
type Controller struct {
	Config // static
	scopes []*scope
	spaces *cluster.Cache[cluster.Namespace] // nil if namespaces are named
	events *events
	status *conditions   // nil: nobody asked for them
	change chan struct{} // has an element when something changed

	// Of the goroutine that runs step.
	said     *Set // what the agent was told last; nil if it was not
	saidAt   time.Time
	problems Refusals // what it does not take of that
	importer *importer

	mu  sync.Mutex
	err error // why what is exposed is not as it should be; guarded by mu
}

// scope is a namespace, or all of them.
type scope struct {
	path     string
	services *cluster.Cache[cluster.Service]
	slices   *cluster.Cache[cluster.Slice]
	exports  *cluster.Cache[cluster.Export] // nil: nobody asked for them
}

// New makes a controller.
func New(c Config) *Controller {
	k := &Controller{Config: c, change: make(chan struct{}, 1), err: errors.New("the API server has not answered yet"), events: newEvents(c.Client, c.Log),
		importer: newImporter(c.Importing, c.Client, c.Log)}
	if c.Conditions {
		k.status = newConditions(c.Client, c.Log)
	}
	paths := []string{""}
	if len(c.Namespaces) > 0 {
		paths = nil
		for _, n := range c.Namespaces {
			paths = append(paths, "/namespaces/"+n)
		}
	} else {
		k.spaces = cluster.NewCache[cluster.Namespace](k.changed)
	}
	for _, p := range paths {
		s := &scope{path: p, services: cluster.NewCache[cluster.Service](k.changed), slices: cluster.NewCache[cluster.Slice](k.changed)}
		if c.Exports {
			s.exports = cluster.NewCache[cluster.Export](k.changed)
		}
		k.scopes = append(k.scopes, s)
	}
	return k
}

// changed wakes Run.
func (k *Controller) changed() {
	select {
	case k.change <- struct{}{}:
	default:
	}
}

// Run keeps what is exposed in step with the cluster until ctx ends.
func (k *Controller) Run(ctx context.Context) error {
	var work sync.WaitGroup
	for _, s := range k.scopes {
		work.Go(func() { cluster.Follow(ctx, k.Client, "/api/v1"+s.path+"/services", s.services) })
		work.Go(func() { cluster.Follow(ctx, k.Client, "/apis/discovery.k8s.io/v1"+s.path+"/endpointslices", s.slices) })
		if s.exports != nil {
			work.Go(func() {
				cluster.Follow(ctx, k.Client, "/apis/multicluster.x-k8s.io/v1alpha1"+s.path+"/serviceexports", s.exports)
			})
		}
	}
	if k.spaces != nil {
		work.Go(func() { cluster.Follow(ctx, k.Client, "/api/v1/namespaces", k.spaces) })
	}
	work.Go(func() { k.events.run(ctx) })
	if k.status != nil {
		work.Go(func() { k.status.run(ctx) })
	}
	k.keep(ctx)
	if objects, err := k.objects(); err == nil {
		k.importer.leave(objects.Slices)
	}
	work.Wait()
	k.Client.Close()
	return nil
}

func (k *Controller) keep(ctx context.Context) {
	ticks := time.NewTicker(look)
	defer ticks.Stop()
	for {
		select {
		case <-k.change:
			if !pause.For(ctx, settle) {
				return
			}
		case <-ticks.C:
		case <-ctx.Done():
			return
		}
		err := k.step(ctx)
		k.note(err)
		if err != nil && ctx.Err() == nil {
			k.changed()
			pause.For(ctx, retry)
		}
	}
}

// note keeps why what is exposed is not as it should be, and tells it once.
func (k *Controller) note(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil && (k.err == nil || k.err.Error() != err.Error()) {
		k.Log.Warn("the cluster's Services are not exposed as they should be", "err", err)
	}
	if err == nil && k.err != nil {
		k.Log.Info("the cluster's Services are exposed", "outbounds", len(k.said.Outbound), "inbounds", len(k.said.Inbound))
	}
	k.err = err
}

// Ready returns nil if what is exposed is what the cluster asks for, as far as can be known.
func (k *Controller) Ready() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// step puts in force what the objects ask for now.
func (k *Controller) step(ctx context.Context) error {
	objects, err := k.objects()
	if err != nil {
		return err
	}
	denied := k.deniedSince()
	if !denied.IsZero() && time.Since(denied) > refused {
		objects = expose.Objects{}
	}
	result := expose.Compute(objects, k.Rules)
	var wanted imports.Result
	if k.Importing.Last > 0 {
		wanted = imports.Compute(objects.Services, objects.Slices, objects.Namespaces, k.Importing.Rules)
	}
	inbounds, notes := k.importer.inbounds(ctx, wanted)
	set := &Set{result.Outbounds, inbounds}
	if k.said == nil || time.Since(k.saidAt) > again || !reflect.DeepEqual(k.said, set) {
		if err := k.publish(ctx, set); err != nil {
			return err
		}
	}
	notes = append(append(notes, result.Notes...), wanted.Notes...)
	notes = append(notes, k.refusals(result, wanted)...)
	k.events.tell(notes)
	if k.status != nil {
		k.status.tell(notes, objects.Services)
	}
	if !denied.IsZero() {
		return fmt.Errorf("the API server has refused this account since %s", unixtime.Text(denied))
	}
	err = k.importer.keep(ctx, wanted, func(key string) bool { return k.problems.Inbound[key] == "" }, objects.Slices)
	return cmp.Or(err, k.hidden())
}

// hidden returns an error if the API server does not show the Namespaces or the ServiceExports any
// longer: the rest goes on.
func (k *Controller) hidden() error {
	if k.spaces != nil {
		if _, err := k.spaces.Health(); cluster.Denied(err) {
			return fmt.Errorf("list of Namespaces: %w", err)
		}
	}
	for _, s := range k.scopes {
		if s.exports == nil {
			continue
		}
		if _, err := s.exports.Health(); cluster.Denied(err) {
			return fmt.Errorf("ServiceExports: %w", err)
		}
	}
	return nil
}

// refusals are notes about what the agent does not take.
func (k *Controller) refusals(result expose.Result, wanted imports.Result) (notes []*asked.Note) {
	for key, why := range k.problems.Outbound {
		notes = append(notes, &asked.Note{Service: result.Of[key], Reason: asked.ExposeRefused, Message: why})
	}
	for _, i := range wanted.Imports {
		for _, p := range i.Ports {
			if why := k.problems.Inbound[p.Key()]; why != "" {
				notes = append(notes, &asked.Note{Service: i.Service, Reason: asked.ImportRefused, Message: why})
			}
		}
	}
	return notes
}

func (k *Controller) publish(ctx context.Context, set *Set) (err error) {
	k.said = nil
	if k.problems, err = k.Derive(ctx, *set); err != nil {
		return fmt.Errorf("the agent does not take the tunnels: %w", err)
	}
	k.said, k.saidAt = set, time.Now()
	return nil
}

// objects returns what the caches have, or what is not known yet.
func (k *Controller) objects() (o expose.Objects, err error) {
	if k.spaces != nil {
		if o.Namespaces, err = items(k.spaces, "Namespaces"); err != nil {
			return o, err
		}
	}
	for _, s := range k.scopes {
		services, err := items(s.services, "Services")
		if err != nil {
			return o, err
		}
		slices, err := items(s.slices, "EndpointSlices")
		if err != nil {
			return o, err
		}
		exports, err := exported(s.exports)
		if err != nil {
			return o, err
		}
		o.Services, o.Slices, o.Exports = append(o.Services, services...), append(o.Slices, slices...), append(o.Exports, exports...)
	}
	return o, nil
}

// exported returns the ServiceExports: none where the cluster does not know what that is, or does not
// show them.
func exported(c *cluster.Cache[cluster.Export]) ([]cluster.Export, error) {
	if c == nil {
		return nil, nil
	}
	denied, err := c.Health()
	list, listed := c.Items()
	switch {
	case listed && (denied.IsZero() || time.Since(denied) <= refused): // an outage, and not a decision
		return list, nil
	case listed, cluster.CodeOf(err) == http.StatusNotFound, cluster.Denied(err):
		return nil, nil
	}
	return items(c, "ServiceExports")
}

func items[T interface{ Head() cluster.Meta }](c *cluster.Cache[T], what string) ([]T, error) {
	list, ok := c.Items()
	if ok {
		return list, nil
	}
	if _, err := c.Health(); err != nil {
		return nil, fmt.Errorf("%s were not listed yet: %w", what, err)
	}
	return nil, fmt.Errorf("%s were not listed yet", what)
}

// deniedSince returns since when the API server refuses what exposing needs; zero if it does not.
func (k *Controller) deniedSince() (since time.Time) {
	for _, s := range k.scopes {
		a, _ := s.services.Health()
		b, _ := s.slices.Health()
		for _, t := range []time.Time{a, b} {
			if !t.IsZero() && (since.IsZero() || t.Before(since)) {
				since = t
			}
		}
	}
	return since
}
