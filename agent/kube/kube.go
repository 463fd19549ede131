// Package kube is an agent in a Kubernetes cluster: what Services ask for becomes outbounds of the
// tunnel app.
//
//	cluster.Follow  Services, EndpointSlices, Namespaces, into caches
//	-> expose.Compute  which outbounds they ask for
//	-> publish  the whole set, in one call of the agent's API   kube.go
//	-> events   what happened, on each Service                  events.go
//	health.go   what the kubelet asks: alive, and ready
//
// It needs no leader: each replica works out the same from the same objects, and offers it as an
// endpoint of its own. It makes, changes and deletes no Service.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"ztm/agent/kube/cluster"
	"ztm/agent/kube/expose"
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
	Rules      expose.Rules
	// Derive makes a set the whole of what this cluster exposes. It returns why outbounds are not
	// in force, by key.
	Derive func(ctx context.Context, set []expose.Outbound) (refused map[string]string, err error)
	Log    *slog.Logger
}

// Controller watches one cluster. Make it with [New], then [Controller.Run] it once.
type Controller struct {
	Config // static
	scopes []*scope
	spaces *cluster.Cache[cluster.Namespace] // nil if namespaces are named
	events *events
	change chan struct{} // has an element when something changed

	// Of the goroutine that runs step.
	said     []expose.Outbound // what the agent was told last; nil if it was not
	saidAt   time.Time
	problems map[string]string // what it does not take of that, by key

	mu  sync.Mutex
	err error // why what is exposed is not as it should be; guarded by mu
}

// scope is a namespace, or all of them.
type scope struct {
	path     string
	services *cluster.Cache[cluster.Service]
	slices   *cluster.Cache[cluster.Slice]
}

// New makes a controller.
func New(c Config) *Controller {
	k := &Controller{Config: c, change: make(chan struct{}, 1), err: errors.New("the API server has not answered yet"), events: newEvents(c.Client, c.Log)}
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
		k.scopes = append(k.scopes, &scope{p, cluster.NewCache[cluster.Service](k.changed), cluster.NewCache[cluster.Slice](k.changed)})
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
	}
	if k.spaces != nil {
		work.Go(func() { cluster.Follow(ctx, k.Client, "/api/v1/namespaces", k.spaces) })
	}
	work.Go(func() { k.events.run(ctx) })
	k.keep(ctx)
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
			if !pause(ctx, settle) {
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
			pause(ctx, retry)
		}
	}
}

// pause waits, and reports whether the time is over rather than ctx.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
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
		k.Log.Info("the cluster's Services are exposed", "outbounds", len(k.said))
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
	if k.said == nil || time.Since(k.saidAt) > again || !reflect.DeepEqual(k.said, result.Outbounds) {
		if err := k.publish(ctx, result.Outbounds); err != nil {
			return err
		}
	}
	for key, why := range k.problems {
		result.Notes = append(result.Notes, expose.Note{Service: result.Of[key], Reason: expose.Refused, Message: why})
	}
	k.events.tell(result.Notes)
	if !denied.IsZero() {
		return fmt.Errorf("the API server has refused this account since %s", denied.UTC().Format(time.RFC3339))
	}
	return nil
}

func (k *Controller) publish(ctx context.Context, set []expose.Outbound) (err error) {
	k.said = nil
	if k.problems, err = k.Derive(ctx, set); err != nil {
		return fmt.Errorf("the agent does not take the outbounds: %w", err)
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
		o.Services, o.Slices = append(o.Services, services...), append(o.Slices, slices...)
	}
	return o, nil
}

func items[T interface{ Head() cluster.Meta }](c *cluster.Cache[T], what string) ([]T, error) {
	list, ok := c.Items()
	if ok {
		return list, nil
	}
	if err, _ := c.Health(); err != nil {
		return nil, fmt.Errorf("%s were not listed yet: %w", what, err)
	}
	return nil, fmt.Errorf("%s were not listed yet", what)
}

// deniedSince returns since when the API server refuses what exposing needs; zero if it does not.
func (k *Controller) deniedSince() (since time.Time) {
	for _, s := range k.scopes {
		_, a := s.services.Health()
		_, b := s.slices.Health()
		for _, t := range []time.Time{a, b} {
			if !t.IsZero() && (since.IsZero() || t.Before(since)) {
				since = t
			}
		}
	}
	return since
}
