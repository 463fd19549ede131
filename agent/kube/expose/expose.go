// Package expose works out which outbounds a cluster's objects ask for. It is a pure function: the
// same objects give the same outbounds in the same order, whoever asks and however often.
//
//	Services, Namespaces -> wish: what is asked for, may it be    wish.go
//	                     -> claims: who gets which name           names.go
//	Slices               -> targets: addresses that are ready     targets.go
//	                     -> Result: outbounds, and a note for each Service that has something to hear
//
// Whoever may write a Service may write all that this package reads of it. So a Service gets its
// own names and those that its namespace's administrators allow; targets are pods of its own
// namespace that the cluster itself has put behind it.
package expose

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
)

// Rules are what holds for all Services. The zero value has no prefix and excludes nothing.
type Rules struct {
	Prefix string // of our annotations and labels: "ztm.dev"
	// Users are the users that any Service may name; "*" is everybody.
	Users []string
	// Exclude are addresses that are no targets besides those that never are: the API server's,
	// this agent's own.
	Exclude []netip.Prefix
	// ForeignSlices makes endpoints count that somebody else than the cluster's controller wrote.
	ForeignSlices bool
}

// Objects are the objects of a cluster, in any order.
type Objects struct {
	Services   []cluster.Service
	Slices     []cluster.Slice
	Namespaces []cluster.Namespace
	Exports    []cluster.Export
}

// Outbound is an outbound of the tunnel app, as its API has it. One without targets is there, and
// refuses connections until it has some.
type Outbound struct {
	Protocol string   `json:"protocol"`
	Name     string   `json:"name"`
	Targets  []string `json:"targets"`
	Users    []string `json:"users,omitempty"`
}

// Key is how the outbound is written: "tcp/shop.web".
func (o *Outbound) Key() string { return o.Protocol + "/" + o.Name }

// Result is what objects ask for.
type Result struct {
	Outbounds []Outbound    // sorted by key
	Notes     []*asked.Note // sorted by namespace and name of the Service
	// Of is the Service of each outbound, by key.
	Of map[string]cluster.Meta
}

// Compute works out what objects ask for.
func Compute(objects Objects, rules Rules) Result {
	w := newWorld(objects, rules)
	c := claims{taken: map[string]string{}}
	var wishes []*wish
	for _, s := range asked.ByAge(objects.Services) {
		if wish := w.wish(s); wish != nil {
			wishes = append(wishes, wish)
			c.reserve(wish)
		}
	}
	result := Result{Outbounds: []Outbound{}, Of: map[string]cluster.Meta{}}
	for _, wish := range wishes {
		w.grant(wish, &c, &result)
	}
	for _, key := range slices.Sorted(maps.Keys(w.got)) {
		result.Outbounds = append(result.Outbounds, w.got[key])
	}
	asked.SortNotes(result.Notes)
	return result
}

// world is the objects by what they are looked up with.
type world struct {
	rules      Rules
	namespaces map[string]cluster.Namespace
	exported   map[string]bool            // Services that a ServiceExport names
	slices     map[string][]cluster.Slice // by namespace and Service
	never      map[netip.Addr]bool        // addresses of the API server
	got        map[string]Outbound        // what is granted, by key
}

func newWorld(o Objects, rules Rules) *world {
	w := &world{rules: rules, namespaces: map[string]cluster.Namespace{}, exported: map[string]bool{}, slices: map[string][]cluster.Slice{}, never: map[netip.Addr]bool{}, got: map[string]Outbound{}}
	for _, n := range o.Namespaces {
		w.namespaces[n.Name] = n
	}
	for _, e := range o.Exports {
		w.exported[e.Namespace+"/"+e.Name] = true
	}
	for _, s := range o.Slices {
		key := s.Namespace + "/" + s.Labels[cluster.LabelService]
		w.slices[key] = append(w.slices[key], s)
	}
	for _, s := range o.Services {
		if s.Namespace == "default" && s.Name == "kubernetes" {
			w.forbid(s.Spec.ClusterIPs)
			w.forbid([]string{s.Spec.ClusterIP})
		}
	}
	for _, s := range w.slices["default/kubernetes"] {
		for _, e := range s.Endpoints {
			w.forbid(e.Addresses)
		}
	}
	return w
}

func (w *world) forbid(addresses []string) {
	for _, text := range addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			w.never[a.Unmap()] = true
		}
	}
}

// grant adds what a wish gets to the result.
func (w *world) grant(wish *wish, c *claims, result *Result) {
	var got []string
	refuse := func(format string, args ...any) {
		result.Notes = append(result.Notes, &asked.Note{Service: wish.service.Meta, Reason: asked.ExposeRefused, Message: fmt.Sprintf(format, args...)})
	}
	for _, text := range wish.refused {
		refuse("%s", text)
	}
	for _, p := range wish.ports {
		targets, problem := w.targets(wish, p)
		if problem != "" {
			refuse("port %s: %s", p.label(), problem)
			continue
		}
		for _, name := range p.names {
			o := Outbound{Protocol: p.protocol, Name: name, Targets: targets, Users: wish.users}
			if len(name) > asked.MaxName {
				refuse("the name %q is longer than %d bytes: name it by %s/expose: NAME", name, asked.MaxName, w.rules.Prefix)
			} else if holder := c.take(o.Key(), wish); holder != "" {
				refuse("the name %s is taken by Service %s", o.Key(), holder)
			} else {
				w.got[o.Key()] = o
				result.Of[o.Key()] = wish.service.Meta
				got = append(got, o.Key())
			}
		}
	}
	if len(got) > 0 {
		result.Notes = append(result.Notes, &asked.Note{Service: wish.service.Meta, Reason: asked.Exposed, Message: "exposed as " + asked.Listed(got) + audience(wish.users)})
	}
}

// audience says who may use a tunnel.
func audience(users []string) string {
	if len(users) == 0 {
		return ""
	}
	return " to " + asked.Listed(users)
}
