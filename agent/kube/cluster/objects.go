package cluster

import (
	"encoding/json"
	"strings"
	"time"
)

// Meta is the head of an object.
type Meta struct {
	Name        string    `json:"name"`
	Namespace   string    `json:"namespace"`
	UID         string    `json:"uid"`
	Version     string    `json:"resourceVersion"`
	Created     time.Time `json:"creationTimestamp"`
	Labels      Notes     `json:"labels"`
	Annotations Notes     `json:"annotations"`
	Owners      []Owner   `json:"ownerReferences"`
}

// Head returns the head itself.
func (m Meta) Head() Meta { return m }

// key tells objects of one kind apart.
func (m Meta) key() string { return m.Namespace + "/" + m.Name }

// Owner is who an object goes with.
type Owner struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// MaxNote is the longest value of ours that has a meaning, in bytes. A longer one is kept to
// MaxNote+1 bytes, so that it can be told.
const MaxNote = 4096

// Notes are the labels or the annotations of an object that can mean something here.
type Notes map[string]string

// kept says which names are kept: ours, under whatever prefix, and those that say whose a slice is.
func kept(name string) bool {
	switch name {
	case "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by":
		return true
	}
	_, last, _ := strings.Cut(name, "/")
	switch last {
	case "expose", "users", "ports", "via", "import", "allow-names", "allow-import", "allow-users":
		return len(name) <= 253+1+63 // the longest that a server takes
	}
	return false
}

// UnmarshalJSON drops what has no meaning here.
func (n *Notes) UnmarshalJSON(b []byte) error {
	var all map[string]string
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*n = nil
	for name, value := range all {
		if kept(name) {
			if *n == nil {
				*n = Notes{}
			}
			(*n)[name] = strings.Clone(value[:min(len(value), MaxNote+1)])
		}
	}
	return nil
}

// Service is a Service.
type Service struct {
	Meta   `json:"metadata"`
	Spec   ServiceSpec   `json:"spec"`
	Status ServiceStatus `json:"status"`
}

// ServiceStatus is what others say of a Service.
type ServiceStatus struct {
	Conditions []Condition `json:"conditions"`
}

// Condition is a statement about an object.
type Condition struct {
	Type    string `json:"type"`
	Status  string `json:"status"` // True, False or Unknown
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// Ours returns the condition of a type, nil if there is none.
func (s *ServiceStatus) Ours(kind string) *Condition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// Same reports whether two conditions say the same. Nil says nothing.
func (c *Condition) Same(d *Condition) bool {
	return c == d || c != nil && d != nil && *c == *d
}

// ServiceSpec is what a Service is.
type ServiceSpec struct {
	Type       string          `json:"type"`
	ClusterIP  string          `json:"clusterIP"`
	ClusterIPs []string        `json:"clusterIPs"`
	Ports      []ServicePort   `json:"ports"`
	Selector   json.RawMessage `json:"selector"`
}

// Selects reports whether the Service has a selector: its slices are then the cluster's business.
func (s *ServiceSpec) Selects() bool {
	text := string(s.Selector)
	return text != "" && text != "null" && text != "{}"
}

// ServicePort is a port of a Service.
type ServicePort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // TCP, UDP or SCTP; empty: TCP
	Port     int    `json:"port"`
}

// Slice is an EndpointSlice.
type Slice struct {
	Meta        `json:"metadata"`
	AddressType string      `json:"addressType"`
	Endpoints   []Endpoint  `json:"endpoints"`
	Ports       []SlicePort `json:"ports"`
}

// Labels of slices.
const (
	LabelService   = "kubernetes.io/service-name"
	LabelManagedBy = "endpointslice.kubernetes.io/managed-by"
	// Controller is who makes the slices of Services with a selector.
	Controller = "endpointslice-controller.k8s.io"
)

// Endpoint is an endpoint in a slice.
type Endpoint struct {
	Addresses  []string   `json:"addresses"`
	Conditions Conditions `json:"conditions"`
	Target     *Target    `json:"targetRef"`
}

// Conditions say whether an endpoint can be used. What is missing has its default.
type Conditions struct {
	Ready       *bool `json:"ready"`
	Serving     *bool `json:"serving"`
	Terminating *bool `json:"terminating"`
}

// IsReady reports whether the endpoint is for new connections.
func (c Conditions) IsReady() bool { return c.Ready == nil || *c.Ready }

// IsServing reports whether the pod is ready, be it on its way out or not. A Service may publish
// endpoints as ready whatever their pods are.
func (c Conditions) IsServing() bool {
	return c.Serving == nil && c.IsReady() || c.Serving != nil && *c.Serving
}

// IsLeaving reports whether the endpoint still serves while it ends.
func (c Conditions) IsLeaving() bool {
	return c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating
}

// Target is what an endpoint is.
type Target struct {
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// SlicePort is a port of the endpoints in a slice.
type SlicePort struct {
	Name     string `json:"name"`
	Protocol string `json:"protocol"`
	Port     int    `json:"port"`
}

// Export is a ServiceExport of the multi-cluster API: the Service of its name is for other clusters.
type Export struct {
	Meta `json:"metadata"`
}

// Namespace is a Namespace.
type Namespace struct {
	Meta `json:"metadata"`
}
