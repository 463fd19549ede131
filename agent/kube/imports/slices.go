package imports

import (
	"net/netip"
	"slices"

	"ztm/agent/kube/cluster"
)

// Slice is an EndpointSlice as it is written.
type Slice struct {
	APIVersion  string              `json:"apiVersion"`
	Kind        string              `json:"kind"`
	Metadata    Metadata            `json:"metadata"`
	AddressType string              `json:"addressType"`
	Endpoints   []Endpoint          `json:"endpoints"`
	Ports       []cluster.SlicePort `json:"ports"`
}

// Metadata is the head of a slice.
type Metadata struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels"`
	Owners    []Owner           `json:"ownerReferences,omitempty"`
}

// Owner is with whom a slice goes.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

// Endpoint is this pod.
type Endpoint struct {
	Addresses  []string        `json:"addresses"`
	Conditions map[string]bool `json:"conditions"`
	NodeName   string          `json:"nodeName,omitempty"`
	Target     cluster.Target  `json:"targetRef"`
}

// The names of slices end in the family of their addresses.
const suffix4, suffix6 = "-4", "-6"

// Suffix is how the names of the slices of a pod end, but for the family of addresses.
func (p *Pod) Suffix() string { return "-ztm-" + p.UID[:min(len(p.UID), 8)] }

// Slices returns the slices that lead the Service to this pod, one for each family of addresses.
// port says at which port it listens for a tunnel, 0 if it does not.
func Slices(i Import, pod Pod, port func(key string) int) (list []Slice) {
	var ports []cluster.SlicePort
	for _, p := range i.Ports {
		if n := port(p.Key()); n > 0 {
			ports = append(ports, cluster.SlicePort{Name: p.Name, Protocol: map[string]string{"tcp": "TCP", "udp": "UDP"}[p.Protocol], Port: n})
		}
	}
	if len(ports) == 0 {
		return nil
	}
	for _, family := range []struct{ kind, mark string }{{"IPv4", suffix4}, {"IPv6", suffix6}} {
		at := slices.IndexFunc(pod.Addresses, func(a netip.Addr) bool { return a.Is4() == (family.kind == "IPv4") })
		if at < 0 {
			continue
		}
		s := Slice{
			APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice", AddressType: family.kind, Ports: ports,
			Metadata: Metadata{
				Name: i.Service.Name + pod.Suffix() + family.mark, Namespace: i.Service.Namespace,
				Labels: map[string]string{cluster.LabelService: i.Service.Name, cluster.LabelManagedBy: Manager},
			},
			Endpoints: []Endpoint{{
				Addresses: []string{pod.Addresses[at].String()}, Conditions: map[string]bool{"ready": true, "serving": true, "terminating": false},
				NodeName: pod.Node, Target: cluster.Target{Kind: "Pod", Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
			}},
		}
		// An owner in another namespace counts as one that is gone: the slice would go at once.
		if pod.Namespace == i.Service.Namespace {
			s.Metadata.Owners = []Owner{{"v1", "Pod", pod.Name, pod.UID}}
		}
		list = append(list, s)
	}
	return list
}

// Same reports whether a slice in the cluster says what s says.
func (s *Slice) Same(there cluster.Slice) bool {
	if there.AddressType != s.AddressType || len(there.Endpoints) != 1 || !slices.Equal(there.Ports, s.Ports) ||
		there.Labels[cluster.LabelService] != s.Metadata.Labels[cluster.LabelService] {
		return false
	}
	e := there.Endpoints[0]
	return slices.Equal(e.Addresses, s.Endpoints[0].Addresses) && e.Conditions.IsReady() && e.Target != nil && e.Target.UID == s.Endpoints[0].Target.UID
}
