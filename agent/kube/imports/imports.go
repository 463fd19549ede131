// Package imports works out which Services of a cluster stand for tunnels of the mesh. It is a pure
// function, as package expose is.
//
//	Services, Namespaces, Slices -> Compute: which tunnels, for which ports    imports.go
//	                             -> Slices: where this pod listens for them    slices.go
//
// A Service that imports has an address and no selector. This pod listens for its tunnels and says
// so in an EndpointSlice of its own, which is what makes the Service lead here. Whoever may write a
// Service could so catch the connections of others: therefore the administrators of its namespace
// say which tunnels it may import.
package imports

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
)

// Rules are what holds for all Services.
type Rules struct {
	Prefix string   // of our annotations: "ztm.dev"
	Allow  []string // tunnels that every namespace may import, without the protocol; a star at the end stands for any rest
	Pod    Pod
}

// Pod is the pod that listens.
type Pod struct {
	Name, Namespace, UID, Node string
	Addresses                  []netip.Addr
}

// Manager is who makes our slices, as their label says.
const Manager = "ztm.dev"

// Import is a Service that imports.
type Import struct {
	Service cluster.Meta
	Ports   []Port
}

// Port is a port of a Service that stands for a tunnel.
type Port struct {
	Name     string // of the port of the Service; "" if it has none
	Protocol string // "tcp" or "udp"
	Tunnel   string
	Exit     string // the name of the endpoint to go out at; "" is any that offers the tunnel
}

// Key is the tunnel as it is written: "tcp/shop.web".
func (p *Port) Key() string { return p.Protocol + "/" + p.Tunnel }

// Result is what objects ask for.
type Result struct {
	Imports []Import // by age of the Service
	Notes   []*asked.Note
}

// Compute works out what objects ask for.
func Compute(services []cluster.Service, list []cluster.Slice, namespaces []cluster.Namespace, rules Rules) Result {
	w := world{rules: rules, allow: map[string][]string{}, foreign: map[string]string{}, taken: map[string]bool{}, exits: map[string]string{}}
	for _, n := range namespaces {
		v, _ := asked.Value(n.Annotations, rules.Prefix, "allow-import")
		w.allow[n.Name] = asked.Words(v)
	}
	for _, s := range list {
		if by := s.Labels[cluster.LabelManagedBy]; by != Manager {
			w.foreign[s.Namespace+"/"+s.Labels[cluster.LabelService]] = s.Name
			w.taken[s.Namespace+"/"+s.Name] = true
		}
	}
	var r Result
	for _, s := range asked.ByAge(services) {
		value, ok := asked.Value(s.Annotations, rules.Prefix, "import")
		if !ok || value == "" {
			continue
		}
		i := Import{Service: s.Meta}
		note := &asked.Note{Service: s.Meta, Reason: asked.Imported}
		if err := w.read(s, value, &i); err != nil {
			note.Reason, note.Message = asked.ImportRefused, err.Error()
		} else {
			note.Message = "imports " + asked.Listed(i.tunnels())
			r.Imports = append(r.Imports, i)
		}
		r.Notes = append(r.Notes, note)
	}
	asked.SortNotes(r.Notes)
	return r
}

func (i *Import) tunnels() (list []string) {
	for _, p := range i.Ports {
		name := p.Key()
		if p.Exit != "" {
			name += "@" + p.Exit
		}
		list = append(list, name)
	}
	return list
}

// world is what a Service is looked at with.
type world struct {
	rules   Rules
	allow   map[string][]string // by namespace
	foreign map[string]string   // slices of others, by Service
	taken   map[string]bool     // names of these slices, with the namespace
	exits   map[string]string   // by key, of the tunnels that are imported
}

// read reads what a Service imports.
func (w *world) read(s *cluster.Service, value string, i *Import) error {
	_, exposes := asked.Value(s.Annotations, w.rules.Prefix, "expose")
	switch foreign := w.foreign[s.Namespace+"/"+s.Name]; {
	case len(value) > cluster.MaxNote:
		return fmt.Errorf("the annotation %s/import is longer than %d bytes", w.rules.Prefix, cluster.MaxNote)
	case s.Spec.Type != "" && s.Spec.Type != "ClusterIP":
		return fmt.Errorf("a Service that imports has the type ClusterIP, and not %.20s", s.Spec.Type)
	case s.Spec.ClusterIP == "None" || s.Spec.ClusterIP == "":
		return fmt.Errorf("a Service that imports has an address: this one is headless")
	case s.Spec.Selects():
		return fmt.Errorf("a Service that imports has no selector: its own pods would answer beside the tunnel")
	case exposes:
		return fmt.Errorf("a Service imports or is exposed: not both")
	case foreign != "":
		return fmt.Errorf("EndpointSlice %s of somebody else is behind the Service: its endpoints would answer beside the tunnel", foreign)
	case w.taken[s.Namespace+"/"+s.Name+w.rules.Pod.Suffix()+suffix4] || w.taken[s.Namespace+"/"+s.Name+w.rules.Pod.Suffix()+suffix6]:
		return fmt.Errorf("an EndpointSlice of somebody else has the name that one of this agent needs")
	case len(w.rules.Pod.Addresses) == 0:
		return fmt.Errorf("the agent does not know the addresses of its pod: see POD_IPS in docs/kubernetes.md")
	}
	if err := w.readPorts(s, asked.Words(value), i); err != nil {
		return err
	}
	for _, p := range i.Ports {
		if exit, ok := w.exits[p.Key()]; ok && exit != p.Exit {
			return fmt.Errorf("another Service imports tunnel %s from another endpoint", p.Key())
		}
	}
	for _, p := range i.Ports {
		w.exits[p.Key()] = p.Exit
	}
	return nil
}

// readPorts reads TUNNEL, which is for the only port, or PORT=TUNNEL for each.
func (w *world) readPorts(s *cluster.Service, list []string, i *Import) error {
	if len(list) > len(s.Spec.Ports) {
		return fmt.Errorf("%d tunnels are for %d ports", len(list), len(s.Spec.Ports))
	}
	used := map[string]bool{}
	for _, word := range list {
		label, tunnel, named := strings.Cut(word, "=")
		if !named {
			label, tunnel = "", word
			if len(s.Spec.Ports) != 1 {
				return fmt.Errorf("the Service has %d ports: write PORT=TUNNEL for each that imports", len(s.Spec.Ports))
			}
		}
		at := slices.IndexFunc(s.Spec.Ports, func(p cluster.ServicePort) bool {
			return !named || p.Name == label && label != "" || strconv.Itoa(p.Port) == label
		})
		if at < 0 {
			return fmt.Errorf("it has no port %.80q", label)
		}
		p, err := w.port(s, s.Spec.Ports[at], tunnel)
		if err != nil {
			return err
		}
		if used[p.Name] {
			return fmt.Errorf("port %.80q is there twice", label)
		}
		used[p.Name] = true
		i.Ports = append(i.Ports, p)
	}
	if len(i.Ports) == 0 {
		return fmt.Errorf("%s/import names no tunnel", w.rules.Prefix)
	}
	return nil
}

// port reads the tunnel of a port: [tcp/]NAME[@EP].
func (w *world) port(s *cluster.Service, sp cluster.ServicePort, text string) (Port, error) {
	p := Port{Name: sp.Name, Protocol: strings.ToLower(sp.Protocol)}
	if p.Protocol == "" {
		p.Protocol = "tcp"
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" {
		return p, fmt.Errorf("tunnels carry TCP and UDP, and not %.20s", sp.Protocol)
	}
	var at bool
	p.Tunnel, p.Exit, at = strings.Cut(strings.TrimPrefix(text, p.Protocol+"/"), "@")
	switch {
	case !asked.Valid(p.Tunnel) || len(p.Tunnel) > asked.MaxName:
		return p, fmt.Errorf("%.80q is not the name of a %s tunnel", text, p.Protocol)
	case at && (!asked.Valid(p.Exit) || len(p.Exit) > asked.MaxName):
		return p, fmt.Errorf("%.80q is not the name of an endpoint", p.Exit)
	case !asked.Covers(w.allow[s.Namespace], p.Tunnel) && !asked.Covers(w.rules.Allow, p.Tunnel):
		return p, fmt.Errorf("namespace %s does not allow tunnel %s: its administrators allow tunnels by %s/allow-import", s.Namespace, p.Tunnel, w.rules.Prefix)
	}
	return p, nil
}
