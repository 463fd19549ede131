package kube

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/agent/kube/imports"
)

const (
	// linger is how long a listener stays after its slice is gone: nodes learn of that a little
	// later.
	linger = 5 * time.Second
	// absent is how long a pod must be missing, or not ready, until its slices are removed.
	absent = 10 * time.Second
	// settled is how long a slice that was written may take to come back in the watch.
	settled = 5 * time.Second
	// resolved is how long the endpoint that has a name is remembered.
	resolved = time.Minute
	// farewell is how long the removal of this pod's slices may take when it ends.
	farewell = 5 * time.Second
)

// Inbound is an inbound of the tunnel app, as its API has it.
type Inbound struct {
	Protocol string   `json:"protocol"`
	Name     string   `json:"name"`
	Listens  []string `json:"listens"`
	Exits    []string `json:"exits,omitempty"`
}

// Importing is how this pod listens for tunnels that Services import.
type Importing struct {
	Rules imports.Rules
	// First and Last are the ports to listen at. Both 0: this pod imports nothing.
	First, Last int
	// Replicas is the Service, "NAMESPACE/NAME", that has all pods of this agent; "" judges nobody.
	Replicas string
	// Resolve returns the ID of the endpoint that has a name.
	Resolve func(ctx context.Context, name string) (string, error)
	// Offered reports whether an endpoint that is online offers a tunnel: the one of a name, or any if
	// exit is "". An error says that nobody can tell. Nil: whoever asks finds out.
	Offered func(ctx context.Context, tunnel, exit string) (bool, error)
}

// importer keeps this pod's listeners and slices. One goroutine uses it.
type importer struct {
	Importing
	client *cluster.Client
	log    *slog.Logger

	listening map[string]*listener // by key
	exits     map[string]exit      // by name
	offers    offers
	written   map[string]time.Time // when a slice was written, by path
	missing   map[string]time.Time // since when a pod is not there or not ready, by UID
}

type listener struct {
	port   int
	exits  []string
	wanted time.Time // the last time
	exit   bool      // somebody offers the tunnel
}

type exit struct {
	id string
	at time.Time
}

func newImporter(i Importing, c *cluster.Client, log *slog.Logger) *importer {
	return &importer{Importing: i, client: c, log: log, offers: offers{i.Offered, map[string]sight{}}, listening: map[string]*listener{}, exits: map[string]exit{}, written: map[string]time.Time{}, missing: map[string]time.Time{}}
}

// inbounds returns where to listen for imports, and notes about what cannot be.
func (i *importer) inbounds(ctx context.Context, r imports.Result) (list []Inbound, notes []*asked.Note) {
	for _, im := range r.Imports {
		for _, p := range im.Ports {
			ids, err := i.exit(ctx, p.Exit)
			if err == nil {
				err = i.listen(p.Key(), ids)
			}
			if err != nil {
				notes = append(notes, &asked.Note{Service: im.Service, Reason: asked.ImportRefused, Message: fmt.Sprintf("tunnel %s: %v", p.Key(), err)})
				continue
			}
			l := i.listening[p.Key()]
			if l.exit = i.offers.has(ctx, p.Key(), p.Exit); !l.exit {
				notes = append(notes, &asked.Note{Service: im.Service, Reason: asked.NoExit, Message: fmt.Sprintf("tunnel %s: no endpoint that is online offers it", p.Key())})
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(i.listening)) {
		l := i.listening[key]
		if time.Since(l.wanted) > linger {
			delete(i.listening, key)
			delete(i.offers.seen, key)
			continue
		}
		protocol, name, _ := strings.Cut(key, "/")
		in := Inbound{Protocol: protocol, Name: name, Exits: l.exits}
		for _, a := range i.Rules.Pod.Addresses {
			in.Listens = append(in.Listens, netip.AddrPortFrom(a, uint16(l.port)).String())
		}
		list = append(list, in)
	}
	return list, notes
}

// exit returns the endpoint of a name. One that was found is used while nobody can be asked.
func (i *importer) exit(ctx context.Context, name string) ([]string, error) {
	if name == "" {
		return nil, nil
	}
	e, known := i.exits[name]
	if !known || time.Since(e.at) > resolved {
		id, err := i.Resolve(ctx, name)
		if err != nil && !known {
			return nil, err
		}
		if err == nil {
			e.id = id
		}
		e.at = time.Now()
		i.exits[name] = e
	}
	return []string{e.id}, nil
}

// listen chooses a port for a tunnel, the same as long as it is wanted.
func (i *importer) listen(key string, exits []string) error {
	if l := i.listening[key]; l != nil {
		l.wanted, l.exits = time.Now(), exits
		return nil
	}
	used := map[int]bool{}
	for _, l := range i.listening {
		used[l.port] = true
	}
	hash := fnv.New32a()
	hash.Write([]byte(key))
	size := i.Last - i.First + 1
	for n := range size {
		port := i.First + (int(hash.Sum32()%uint32(size))+n)%size
		if !used[port] {
			i.listening[key] = &listener{port: port, exits: exits, wanted: time.Now()}
			return nil
		}
	}
	return fmt.Errorf("all ports from %d to %d are taken", i.First, i.Last)
}

func slicePath(namespace, name string) string {
	return "/apis/discovery.k8s.io/v1/namespaces/" + namespace + "/endpointslices/" + name
}

// keep makes this pod's slices those that lead to listeners. A tunnel that nobody offers is left out,
// so that the cluster refuses its clients at once. in reports whether the agent listens
// for a tunnel; there are the slices of the cluster.
func (i *importer) keep(ctx context.Context, r imports.Result, in func(key string) bool, there []cluster.Slice) error {
	present := map[string]cluster.Slice{}
	for _, s := range there {
		if i.own(s) {
			present[slicePath(s.Namespace, s.Name)] = s
		}
	}
	ready := i.replicas(there)
	yields := i.yields(ready)
	port := func(key string) int {
		if l := i.listening[key]; l != nil && l.exit && !yields && in(key) {
			return l.port
		}
		return 0
	}
	wanted := map[string]bool{}
	for _, im := range r.Imports {
		for _, s := range imports.Slices(im, i.Rules.Pod, port) {
			path := slicePath(s.Metadata.Namespace, s.Metadata.Name)
			wanted[path] = true
			if old, ok := present[path]; ok && s.Same(old) {
				continue
			}
			if err := i.write(ctx, path, s); err != nil {
				return err
			}
		}
	}
	for path, s := range present {
		if !wanted[path] {
			delete(i.written, path)
			if err := i.remove(ctx, s); err != nil {
				return err
			}
		}
	}
	return i.bury(ctx, ready, there)
}

// write writes a slice of this pod, unless it was written a moment ago.
func (i *importer) write(ctx context.Context, path string, s imports.Slice) error {
	if time.Since(i.written[path]) < settled {
		return nil
	}
	q := url.Values{"fieldManager": {"ztm"}, "force": {"true"}}
	if err := i.client.Do(ctx, http.MethodPatch, path, q, "application/apply-patch+yaml", s, nil); err != nil {
		return fmt.Errorf("EndpointSlice %s/%s: %w", s.Metadata.Namespace, s.Metadata.Name, err)
	}
	i.written[path] = time.Now()
	return nil
}

// own reports whether a slice is this pod's.
func (i *importer) own(s cluster.Slice) bool {
	return s.Labels[cluster.LabelManagedBy] == imports.Manager && podOf(s) == i.Rules.Pod.UID && i.Rules.Pod.UID != ""
}

// podOf returns the UID of the pod that a slice of ours leads to.
func podOf(s cluster.Slice) string {
	if len(s.Endpoints) == 1 && s.Endpoints[0].Target != nil {
		return s.Endpoints[0].Target.UID
	}
	return ""
}

// remove deletes a slice, unless it was changed or made anew.
func (i *importer) remove(ctx context.Context, s cluster.Slice) error {
	only := map[string]any{"preconditions": map[string]string{"uid": s.UID, "resourceVersion": s.Version}}
	err := i.client.Do(ctx, http.MethodDelete, slicePath(s.Namespace, s.Name), nil, "application/json", only, nil)
	switch cluster.CodeOf(err) {
	case http.StatusNotFound, http.StatusConflict:
		return nil
	}
	if err != nil {
		return fmt.Errorf("EndpointSlice %s/%s: %w", s.Namespace, s.Name, err)
	}
	return nil
}

// leave removes this pod's slices, because it ends.
func (i *importer) leave(there []cluster.Slice) {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	for _, s := range there {
		if i.own(s) {
			if err := i.remove(ctx, s); err != nil {
				i.log.Warn("a slice of this pod stays", "err", err)
				return
			}
		}
	}
}

// Ports reads the ports to listen at: "20000-29999".
func Ports(s string) (first, last int, err error) {
	a, b, _ := strings.Cut(s, "-")
	first, err1 := strconv.Atoi(a)
	last, err2 := strconv.Atoi(b)
	if err1 != nil || err2 != nil || first < 1 || first > last || last >= 1<<16 {
		return 0, 0, errors.New("want a range of ports, such as 20000-29999")
	}
	return first, last, nil
}
