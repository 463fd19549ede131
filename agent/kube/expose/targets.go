package expose

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ztm/agent/kube/cluster"
)

// maxTargets bounds the targets of one outbound. A Service may have thousands of endpoints.
const maxTargets = 128

// targets returns the addresses of a port that take connections now, or what is wrong with it. No
// targets and nothing wrong means that none is ready.
func (w *world) targets(wish *wish, p port) (list []string, problem string) {
	if wish.cluster {
		a, err := netip.ParseAddr(wish.service.Spec.ClusterIP)
		if err != nil || !w.usable(a) {
			return nil, "the address of the Service is no target"
		}
		return []string{netip.AddrPortFrom(a, uint16(p.Port)).String()}, ""
	}
	var ready, leaving []string
	for _, s := range w.slices[wish.service.Namespace+"/"+wish.service.Name] {
		number := portIn(s, p)
		if number == 0 {
			continue
		}
		for _, e := range s.Endpoints {
			address := w.address(s, e, number)
			switch {
			case address == "":
			case e.Conditions.IsReady():
				ready = append(ready, address)
			case e.Conditions.IsLeaving():
				leaving = append(leaving, address)
			}
		}
	}
	if len(ready) == 0 {
		ready = leaving
	}
	slices.Sort(ready)
	ready = slices.Compact(ready)
	return ready[:min(len(ready), maxTargets)], ""
}

// portIn returns the number that a port of a Service has at the endpoints of a slice; 0 if they
// have it not.
func portIn(s cluster.Slice, p port) int {
	for _, sp := range s.Ports {
		if sp.Name == p.Name && strings.EqualFold(sp.Protocol, p.protocol) && sp.Port > 0 && sp.Port < 1<<16 {
			return sp.Port
		}
	}
	return 0
}

// address returns where an endpoint is reached, or "" if it is no target. Whoever may write slices
// could name any address: so an endpoint counts that the cluster's controller has written, for a pod
// of the Service's own namespace.
func (w *world) address(s cluster.Slice, e cluster.Endpoint, number int) string {
	if !w.rules.ForeignSlices && (s.Labels[cluster.LabelManagedBy] != cluster.Controller ||
		e.Target == nil || e.Target.Kind != "Pod" || e.Target.Namespace != s.Namespace) {
		return ""
	}
	if len(e.Addresses) == 0 {
		return ""
	}
	a, err := netip.ParseAddr(e.Addresses[0]) // the others are of no meaning
	if err != nil || !w.usable(a) {
		return ""
	}
	return net.JoinHostPort(a.String(), strconv.Itoa(number))
}

// usable reports whether an address can be a target for anybody.
func (w *world) usable(a netip.Addr) bool {
	a = a.Unmap()
	if a.Zone() != "" || a.IsUnspecified() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || w.never[a] {
		return false
	}
	return !slices.ContainsFunc(w.rules.Exclude, func(p netip.Prefix) bool { return p.Contains(a) })
}
