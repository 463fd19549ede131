package expose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
)

// The values of annotations.
const (
	all         = "all"  // of the label of a namespace
	yes         = "true" // of the annotation of a Service
	no          = "false"
	viaCluster  = "cluster"
	viaEndpoint = "endpoints"
	maxUsers    = 64 // of one Service
)

// wish is what a Service asks for, as far as it may.
type wish struct {
	service *cluster.Service
	name    string // a name that its namespace allows; "" is its own
	users   []string
	ports   []port
	cluster bool     // the target is the Service's own address
	refused []string // sentences about what it does not get
}

// port is a port of a wish.
type port struct {
	cluster.ServicePort
	protocol string // as tunnels have it
	names    []string
}

// label is how people and names know the port.
func (p *port) label() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(p.Port)
}

// wish reads the annotations of a Service. It returns nil if the Service asks for nothing.
func (w *world) wish(s *cluster.Service) *wish {
	value, wanted := w.note(s.Annotations, "expose")
	if !wanted {
		by, _ := w.note(w.namespaces[s.Namespace].Labels, "expose")
		if by != all && !w.exported[s.Namespace+"/"+s.Name] || s.Namespace == "default" && s.Name == "kubernetes" {
			return nil
		}
		value = yes
	}
	if value == no || value == "" {
		return nil
	}
	wish := &wish{service: s}
	switch {
	case s.Namespace == "default" && s.Name == "kubernetes":
		wish.refuse("this is the API server: use ztm kube login")
	case s.Spec.Type == "ExternalName":
		wish.refuse("a Service of type ExternalName is a name and no service")
	case len(s.Spec.Ports) == 0:
		wish.refuse("it has no ports")
	case w.tooLong(s, wish):
	default:
		w.readName(wish, value)
		w.readUsers(wish)
		w.readVia(wish)
		if len(wish.refused) == 0 {
			w.readPorts(wish)
		}
	}
	return wish
}

func (w *wish) refuse(format string, args ...any) {
	w.refused = append(w.refused, fmt.Sprintf(format, args...))
}

// note returns one of our annotations or labels.
func (w *world) note(notes cluster.Notes, name string) (string, bool) {
	return asked.Value(notes, w.rules.Prefix, name)
}

func (w *world) tooLong(s *cluster.Service, wish *wish) bool {
	before := len(wish.refused)
	for _, name := range []string{"expose", "users", "ports", "via"} {
		if len(s.Annotations[w.rules.Prefix+"/"+name]) > cluster.MaxNote {
			wish.refuse("the annotation %s/%s is longer than %d bytes", w.rules.Prefix, name, cluster.MaxNote)
		}
	}
	return len(wish.refused) > before
}

// readName reads the name that a Service wants to have instead of its own.
func (w *world) readName(wish *wish, value string) {
	if value == yes || value == own(wish.service) {
		return
	}
	if !asked.Valid(value) {
		wish.refuse("%s/expose is %.80q: want \"true\" or a name of letters, digits, '.', '_' and '-'", w.rules.Prefix, value)
		return
	}
	allowed, _ := w.note(w.namespaces[wish.service.Namespace].Annotations, "allow-names")
	if !asked.Covers(asked.Words(allowed), value) {
		wish.refuse("namespace %s does not allow the name %s: its administrators allow names by %s/allow-names",
			wish.service.Namespace, value, w.rules.Prefix)
		return
	}
	wish.name = value
}

// own is the name of a Service that nobody can take from it.
func own(s *cluster.Service) string { return s.Namespace + "." + s.Name }

// readUsers reads who may use the tunnels besides the agent's own user.
func (w *world) readUsers(wish *wish) {
	text, _ := w.note(wish.service.Annotations, "users")
	byNamespace, _ := w.note(w.namespaces[wish.service.Namespace].Annotations, "allow-users")
	allowed := append(asked.Words(byNamespace), w.rules.Users...)
	list := asked.Words(text)
	if len(list) > maxUsers {
		wish.refuse("%s/users has %d names, more than %d", w.rules.Prefix, len(list), maxUsers)
		return
	}
	slices.Sort(list)
	for _, user := range slices.Compact(list) {
		switch {
		case !asked.Valid(user) || len(user) > asked.MaxName:
			wish.refuse("%s/users: %.80q is not the name of a user", w.rules.Prefix, user)
		case !slices.Contains(allowed, user) && !slices.Contains(allowed, "*"):
			wish.refuse("user %s may not be named here: the namespace's administrators allow users by %s/allow-users", user, w.rules.Prefix)
		default:
			wish.users = append(wish.users, user)
		}
	}
}

// readVia reads whether targets are the endpoints or the address of the Service.
func (w *world) readVia(wish *wish) {
	switch via, _ := w.note(wish.service.Annotations, "via"); via {
	case "", viaEndpoint:
	case viaCluster:
		if wish.cluster = true; wish.service.Spec.ClusterIP == "None" || wish.service.Spec.ClusterIP == "" {
			wish.refuse("%s/via is cluster, and the Service has no address", w.rules.Prefix)
		}
	default:
		wish.refuse("%s/via is %.80q: want %s or %s", w.rules.Prefix, via, viaEndpoint, viaCluster)
	}
}

// readPorts reads which ports are wanted, and gives each its names: the first of a protocol has
// the name itself and, when there are several, each has one with the port's label. So adding a port
// takes no name away.
func (w *world) readPorts(wish *wish) {
	text, _ := w.note(wish.service.Annotations, "ports")
	wanted := asked.Words(text)
	used := map[string]bool{}
	first := map[string]bool{}
	base := wish.name
	if base == "" {
		base = own(wish.service)
	}
	for _, sp := range wish.service.Spec.Ports {
		p := port{ServicePort: sp, protocol: strings.ToLower(sp.Protocol)}
		number := strconv.Itoa(p.Port)
		if p.protocol == "" {
			p.protocol = "tcp"
		}
		if len(wanted) > 0 && !slices.Contains(wanted, sp.Name) && !slices.Contains(wanted, number) {
			continue
		}
		used[sp.Name], used[number] = true, true
		if p.protocol != "tcp" && p.protocol != "udp" {
			wish.refuse("port %s: tunnels carry TCP and UDP, and not %.20s", p.label(), sp.Protocol)
			continue
		}
		if !first[p.protocol] {
			first[p.protocol] = true
			p.names = append(p.names, base)
		}
		if len(wish.service.Spec.Ports) > 1 {
			p.names = append(p.names, base+"."+p.label())
		}
		wish.ports = append(wish.ports, p)
	}
	for _, name := range wanted {
		if !used[name] {
			wish.refuse("it has no port %.80q", name)
		}
	}
}
