package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/spec"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

const (
	// askTimeout bounds how long a listing waits for one endpoint.
	askTimeout = 5 * time.Second
	// asksAtOnce bounds how many endpoints a listing asks at the same time.
	asksAtOnce = 8
	// maxListed is how many endpoints a cell of a table names.
	maxListed = 10
)

// survey is all tunnels of the mesh, as far as they can be seen: the outbounds that endpoints
// offer, and everything at this user's endpoints.
type survey struct {
	user    string
	names   map[identity.ID]string // of endpoints; their ID where the name is not unique
	tunnels map[spec.Key]*ends
	allow   []ManifestAllow
}

// ends is where a tunnel has its ends.
type ends struct {
	inbound, outbound []apps.Endpoint
	manifest          ManifestTunnel
}

// survey asks this user's endpoints, or the one that the `ep` prefix chose. One that does not
// answer is named on standard error.
func (c *client) survey(ctx context.Context) (*survey, error) {
	local, err := c.Resolve(ctx, "")
	if err != nil {
		return nil, err
	}
	all, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return nil, err
	}
	s := &survey{user: local.User, names: uniqueNames(all), tunnels: map[spec.Key]*ends{}}
	if at, err := c.Endpoint(ctx); err != nil {
		return nil, err
	} else if c.Chosen() { // the `ep` prefix asks for what is there
		all = slices.DeleteFunc(all, func(ep apps.Endpoint) bool { return ep.ID != at.ID })
	}
	var own []apps.Endpoint
	for _, ep := range all {
		s.addOffers(ep)
		if ep.User == local.User && (ep.Online || ep.Local) {
			own = append(own, ep)
		}
	}
	for i, status := range c.ask(ctx, own) {
		s.addStatus(own[i], status)
	}
	return s, nil
}

func uniqueNames(all []apps.Endpoint) map[identity.ID]string {
	count := map[string]int{}
	for _, ep := range all {
		count[ep.Name]++
	}
	names := map[identity.ID]string{}
	for _, ep := range all {
		names[ep.ID] = ep.Name
		if count[ep.Name] > 1 {
			names[ep.ID] = string(ep.ID)
		}
	}
	return names
}

func (s *survey) name(id identity.ID) string {
	if n := s.names[id]; n != "" {
		return n
	}
	return string(id)
}

func (s *survey) tunnel(k spec.Key) *ends {
	e := s.tunnels[k]
	if e == nil {
		e = &ends{manifest: ManifestTunnel{Name: k.String()}}
		s.tunnels[k] = e
	}
	return e
}

func (s *survey) addOffers(ep apps.Endpoint) {
	for _, offer := range ep.Offers {
		name, ok := strings.CutPrefix(offer, spec.AppName+"/")
		k, err := spec.ParseKey(name)
		if !ok || err != nil {
			continue
		}
		e := s.tunnel(k)
		e.outbound = append(e.outbound, ep)
		if ep.User != s.user {
			e.manifest.Others = append(e.manifest.Others, s.name(ep.ID))
		}
	}
}

func (s *survey) addStatus(ep apps.Endpoint, status tunnel.Status) {
	name := s.name(ep.ID)
	for _, in := range status.Inbound {
		e := s.tunnel(in.Key)
		e.inbound = append(e.inbound, ep)
		if status.Derived.Inbound[in.Key.String()] != "" {
			continue // a manifest is what people set
		}
		set := in.InboundSpec
		set.Exits = renamed(set.Exits, s.name)
		e.manifest.Inbound = append(e.manifest.Inbound, ManifestInbound{name, set})
	}
	for _, o := range status.Outbound {
		e := s.tunnel(o.Key)
		if !slices.ContainsFunc(e.outbound, func(has apps.Endpoint) bool { return has.ID == ep.ID }) {
			e.outbound = append(e.outbound, ep) // it is not offered by its name
		}
		if status.Derived.Outbound[o.Key.String()] != "" {
			continue
		}
		set := o.OutboundSpec
		set.Entrances = renamed(set.Entrances, s.name)
		e.manifest.Outbound = append(e.manifest.Outbound, ManifestOutbound{name, set})
	}
	for _, rule := range status.Allow {
		s.allow = append(s.allow, ManifestAllow{name, rule})
	}
}

func (s *survey) manifest() Manifest {
	m := Manifest{Tunnels: []ManifestTunnel{}, Allow: s.allow}
	for _, e := range spec.SortedValues(s.tunnels) {
		m.Tunnels = append(m.Tunnels, e.manifest)
	}
	return m
}

// ask returns the tunnels of each of this user's endpoints; those that do not answer have none.
func (c *client) ask(ctx context.Context, own []apps.Endpoint) []tunnel.Status {
	answers := make([]tunnel.Status, len(own))
	errs := make([]error, len(own))
	slots := make(chan struct{}, asksAtOnce) // one element for each question under way
	var questions sync.WaitGroup
	for i, ep := range own {
		slots <- struct{}{}
		questions.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askTimeout)
			defer cancel()
			errs[i] = c.CallAt(ctx, ep.ID, http.MethodGet, spec.AppName+"/tunnels", nil, &answers[i])
			<-slots
		})
	}
	questions.Wait()
	for i, err := range errs {
		if err != nil {
			fmt.Fprintf(c.Stderr(), "endpoint %s: %s\n", apps.Printable(own[i].Name), apps.Printable(err.Error()))
		}
	}
	return answers
}

func (c *client) getTunnel(ctx context.Context) error {
	s, err := c.survey(ctx)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"NAME", "INBOUND", "OUTBOUND"}}
	for _, k := range spec.SortedKeys(s.tunnels) {
		e := s.tunnels[k]
		t.Add(k.String(), endList(e.inbound, s.user), endList(e.outbound, s.user))
	}
	return c.Print(s.manifest().Tunnels, t)
}

// export prints the tunnels, and what may be reached without one, as the file that apply reads.
func (c *client) export(ctx context.Context) error {
	s, err := c.survey(ctx)
	if err != nil {
		return err
	}
	return c.Export(s.manifest())
}

// endList names endpoints, with their user where that is not the given one.
func endList(list []apps.Endpoint, user string) string {
	var names []string
	for _, e := range list[:min(len(list), maxListed)] {
		name := e.Name
		if e.User != user {
			name += " (" + e.User + ")"
		}
		names = append(names, name)
	}
	switch more := len(list) - maxListed; {
	case len(list) == 0:
		return "-"
	case more > 0:
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

func (c *client) describeTunnel(ctx context.Context, name string) error {
	k, err := parseKey(name)
	if err != nil {
		return err
	}
	s, err := c.survey(ctx)
	if err != nil {
		return err
	}
	e := s.tunnels[k]
	if e == nil {
		return missingHint(answer.Errorf(answer.NotFound, "tunnel %s not found", k))
	}
	t := &apps.Table{}
	t.Add("Tunnel:", k.String())
	t.Add("Inbound:", endList(e.inbound, s.user))
	t.Add("Outbound:", endList(e.outbound, s.user))
	return c.Print(e.manifest, t)
}

// known lists tunnels by name: what endpoints offer, and what the chosen one has opened.
func (c *client) known(ctx context.Context) []string {
	var out []string
	eps, _ := c.Endpoints(ctx, apps.Filter{}) // nothing is known of what cannot be asked
	for _, ep := range eps {
		for _, o := range ep.Offers {
			name, ok := strings.CutPrefix(o, spec.AppName+"/")
			if _, err := spec.ParseKey(name); ok && err == nil {
				out = append(out, name)
			}
		}
	}
	var own tunnel.Status
	_ = c.Call(ctx, http.MethodGet, spec.AppName+"/tunnels", nil, &own)
	for _, in := range own.Inbound {
		out = append(out, in.Key.String())
	}
	for _, o := range own.Outbound {
		out = append(out, o.Key.String())
	}
	return out
}
