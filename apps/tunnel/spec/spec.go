// Package spec is what a tunnel is: its name, the configuration of its two ends, and how these are
// written. It is what the entrance and the exit of a tunnel agree on, with the command line and the
// API.
//
//	Key        "tcp/web"                                             spec.go
//	Inbound    where it listens, which exits it may use              spec.go
//	Outbound   what it connects to, and for whom                     spec.go
//	Address    "127.0.0.1:8080", "7000-7010", "unix:/run/db.sock"    address.go
//	wire.go    the paths and parameters of flows
package spec

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"ztm/apps"
	"ztm/apps/balance"
	"ztm/apps/tunnel/proxyproto"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The transports a tunnel carries.
const (
	TCP = "tcp"
	UDP = "udp"
)

// Key names a tunnel. The inbounds and outbounds of one key, at any endpoints, are one tunnel.
type Key struct {
	Protocol string `json:"protocol"`
	Name     string `json:"name"`
}

// maxName is the longest name of a tunnel, in bytes: it travels in every endpoint record.
const maxName = 63

// ParseKey reads a key as it is written: "tcp/web".
func ParseKey(s string) (Key, error) {
	protocol, name, _ := strings.Cut(s, "/")
	k := Key{protocol, name}
	return k, k.Validate()
}

// String returns the key as [ParseKey] reads it.
func (k Key) String() string { return k.Protocol + "/" + k.Name }

// Validate returns an error if the key names no tunnel.
func (k Key) Validate() error {
	if k.Protocol != TCP && k.Protocol != UDP {
		return fmt.Errorf("tunnel name %q: want tcp/NAME or udp/NAME", strings.TrimSuffix(k.String(), "/"))
	}
	// Dots alone mean something else in the path of a request.
	if strings.Trim(k.Name, ".") == "" || len(k.Name) > maxName || strings.ContainsFunc(k.Name, notInName) {
		return fmt.Errorf("tunnel name %q: a name has letters, digits, '.', '_' and '-', at most %d bytes, and not dots alone", k, maxName)
	}
	return nil
}

func notInName(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-", r)
}

// Inbound is the entrance of a tunnel: where it listens, and which exits it may use.
type Inbound struct {
	Key
	InboundSpec
}

// InboundSpec is what can be set of an inbound.
type InboundSpec struct {
	Listens []Address `json:"listens"` // an empty list, which is not a missing one, listens nowhere
	// Exits are the endpoints to go out at. Empty: those of one user that offer the tunnel, see
	// ExitsOf.
	Exits []identity.ID `json:"exits,omitempty"`
	// ExitsOf is the user whose endpoints to go out at. Empty: this user's own if they offer the
	// tunnel, or else those of the one user who offers and allows it when the inbound looks for
	// them first.
	ExitsOf string `json:"exitsOf,omitempty"`
	Limits
	Balance balance.Policy `json:"balance,omitempty"` // between the exits
	// AcceptProxy says that every client begins with a header of the PROXY protocol, because a
	// proxy stands before us.
	AcceptProxy bool          `json:"acceptProxyProtocol,omitempty"`
	Idle        apps.Duration `json:"idleTimeout,omitempty"` // after which a flow of datagrams ends; 0 means a minute
}

// Outbound is the exit of a tunnel: what it connects to, and for whom.
type Outbound struct {
	Key
	OutboundSpec
}

// OutboundSpec is what can be set of an outbound.
type OutboundSpec struct {
	Targets   []Address     `json:"targets"`
	Entrances []identity.ID `json:"entrances,omitempty"` // empty: every endpoint of the users
	Users     []string      `json:"users,omitempty"`     // users besides the endpoint's own; empty: nobody else
	Limits
	Balance balance.Policy `json:"balance,omitempty"` // between the targets
	Check   Check          `json:"check,omitempty"`   // of the targets
	// Proxy is the PROXY header that targets are sent, with the address of the client as the
	// entrance states it.
	Proxy proxyproto.Version `json:"proxyProtocol,omitempty"`
	Idle  apps.Duration      `json:"idleTimeout,omitempty"` // after which a flow of datagrams ends; 0 means a minute
	Off   bool               `json:"off,omitempty"`         // refuses all flows, and is not advertised
}

// Validate returns an error if the inbound cannot be one.
func (in *Inbound) Validate() error {
	if err := in.Key.Validate(); err != nil {
		return err
	}
	if err := ValidateAddresses(in.Protocol, in.Listens); err != nil && (in.Listens == nil || len(in.Listens) > 0) {
		return fmt.Errorf("inbound %s: listen: %w", in.Key, err)
	}
	for i, a := range in.Listens {
		for _, b := range in.Listens[:i] {
			if a.Overlaps(b) {
				return fmt.Errorf("inbound %s: listen: %s and %s overlap", in.Key, b, a)
			}
		}
	}
	if err := validateIDs(in.Exits); err != nil {
		return fmt.Errorf("inbound %s: exits: %w", in.Key, err)
	}
	if in.ExitsOf != "" {
		if err := identity.CheckName(in.ExitsOf); err != nil {
			return fmt.Errorf("inbound %s: exits of a user: %w", in.Key, err)
		}
		if len(in.Exits) > 0 {
			return fmt.Errorf("inbound %s: it has exits and a user of exits: one of them is enough", in.Key)
		}
	}
	if in.AcceptProxy && in.Protocol != TCP {
		return fmt.Errorf("inbound %s: only clients of tcp tunnels send a PROXY header", in.Key)
	}
	if err := in.Limits.Validate(); err != nil {
		return fmt.Errorf("inbound %s: limits: %w", in.Key, err)
	}
	if err := in.Balance.Validate(); err != nil {
		return fmt.Errorf("inbound %s: balance: %w", in.Key, err)
	}
	if err := checkIdle(in.Idle, in.Protocol); err != nil {
		return fmt.Errorf("inbound %s: idle timeout: %w", in.Key, err)
	}
	return nil
}

// Validate returns an error if the outbound cannot be one.
func (o *Outbound) Validate() error {
	if err := o.Key.Validate(); err != nil {
		return err
	}
	if err := ValidateAddresses(o.Protocol, o.Targets); err != nil {
		return fmt.Errorf("outbound %s: targets: %w", o.Key, err)
	}
	for i, a := range o.Targets {
		if err := a.ValidateTarget(); err != nil {
			return fmt.Errorf("outbound %s: targets: %w", o.Key, err)
		}
		if slices.Contains(o.Targets[:i], a) {
			return fmt.Errorf("outbound %s: targets: %s is there twice", o.Key, a)
		}
	}
	if err := validateIDs(o.Entrances); err != nil {
		return fmt.Errorf("outbound %s: entrances: %w", o.Key, err)
	}
	if err := ValidateUsers(o.Users); err != nil {
		return fmt.Errorf("outbound %s: users: %w", o.Key, err)
	}
	if err := o.Limits.Validate(); err != nil {
		return fmt.Errorf("outbound %s: limits: %w", o.Key, err)
	}
	if err := o.Balance.Validate(); err != nil {
		return fmt.Errorf("outbound %s: balance: %w", o.Key, err)
	}
	if err := o.Proxy.Validate(); err != nil {
		return fmt.Errorf("outbound %s: PROXY protocol: %w", o.Key, err)
	}
	if o.Proxy != "" && o.Protocol != TCP {
		return fmt.Errorf("outbound %s: only targets of tcp tunnels can be sent a PROXY header", o.Key)
	}
	if err := o.validateCheck(); err != nil {
		return fmt.Errorf("outbound %s: check: %w", o.Key, err)
	}
	if err := checkIdle(o.Idle, o.Protocol); err != nil {
		return fmt.Errorf("outbound %s: idle timeout: %w", o.Key, err)
	}
	return nil
}

func (o *Outbound) validateCheck() error {
	ports := len(o.Targets) * o.Targets[0].Size()
	switch {
	case o.Check != "" && o.Protocol != TCP:
		return errors.New("nobody can connect to a udp target to see that it is up: leave the check out; " +
			"a target that refuses datagrams is avoided without it")
	case o.Check != "" && ports > maxChecked:
		return fmt.Errorf("the targets have %d ports, and at most %d are checked: leave the check out; "+
			"a target that refuses connections is avoided without it", ports, maxChecked)
	}
	return o.Check.Validate()
}

// ValidateAddresses returns an error unless all addresses, of which there is at least one, can be
// of one tunnel.
func ValidateAddresses(protocol string, list []Address) error {
	if len(list) == 0 {
		return errors.New("want at least one address")
	}
	for _, a := range list {
		switch {
		case a.Path != "" && protocol == UDP:
			return fmt.Errorf("%s: a unix socket carries tcp tunnels alone", a)
		case a.Path != "" && !filepath.IsAbs(a.Path):
			return fmt.Errorf("%s: the path of the socket is not absolute: begin it with a slash", a)
		case a.Size() != list[0].Size():
			return fmt.Errorf("%s and %s have different numbers of ports, %d and %d: each port of one goes with a port of the other",
				list[0], a, list[0].Size(), a.Size())
		}
	}
	return nil
}

// ValidateTarget refuses what can be listened on but not connected to.
func (a Address) ValidateTarget() error {
	switch {
	case a.Path != "":
	case a.First == 0:
		return fmt.Errorf("%s is nothing to connect to: name a port from 1 to 65535", a)
	case a.wild():
		return fmt.Errorf("%s is nothing to connect to: name a host, such as 127.0.0.1", a)
	}
	return nil
}

func validateIDs(list []identity.ID) error {
	for i, id := range list {
		if _, err := identity.ParseID(string(id)); err != nil {
			return err
		}
		if slices.Contains(list[:i], id) {
			return fmt.Errorf("%s is there twice", id)
		}
	}
	return nil
}

// ValidateUsers returns an error unless all terms are well-formed, see [apps.CheckNamed], and each is
// there once.
func ValidateUsers(list []string) error {
	for i, u := range list {
		if err := apps.CheckNamed([]string{u}); err != nil {
			return fmt.Errorf("%q is neither a user nor a group: %v", u, err)
		}
		if slices.Contains(list[:i], u) {
			return fmt.Errorf("%s is there twice", u)
		}
	}
	return nil
}

// ValidateDerived returns an error if a derived outbound cannot be one. It may have no targets: what
// it is derived from is there, and cannot be reached now.
func (o *Outbound) ValidateDerived() error {
	if len(o.Targets) > 0 {
		return o.Validate()
	}
	reached := *o
	reached.Targets = []Address{{Host: "127.0.0.1", First: 1, Last: 1}} // any one
	return reached.Validate()
}

// ValidateOwner returns an error unless a name can be that of who derives outbounds.
func ValidateOwner(name string) error { return identity.CheckName(name) }

// Allows returns nil if a peer may use the tunnel at endpoint self, and otherwise the answer that
// it gets.
func (o *Outbound) Allows(self apps.Endpoint, p apps.Peer, names apps.Names) error {
	if p.User != self.User && !names(p, o.Users) {
		return answer.Errorf(answer.Denied, "endpoint %s does not allow user %s to use tunnel %s", self.Name, p.User, o.Key)
	}
	if len(o.Entrances) > 0 && !slices.Contains(o.Entrances, p.ID) {
		return answer.Errorf(answer.Denied, "endpoint %s does not allow endpoint %s as an entrance of tunnel %s",
			self.Name, p.ID, o.Key)
	}
	if o.Off {
		return answer.Errorf(answer.Unavailable, "endpoint %s has switched tunnel %s off", self.Name, o.Key)
	}
	return nil
}

// TargetNames returns the targets as the pool knows them: each port of a range on its own.
func (o *Outbound) TargetNames() []string {
	names := make([]string, 0, len(o.Targets))
	for _, a := range o.Targets {
		for i := range a.Size() {
			names = append(names, a.At(i).String())
		}
	}
	return names
}

// SortedValues returns the values of a map in the order of their keys.
func SortedValues[V any](m map[Key]V) []V {
	list := make([]V, 0, len(m))
	for _, k := range SortedKeys(m) {
		list = append(list, m[k])
	}
	return list
}

// SortedKeys returns the keys of a map, sorted.
func SortedKeys[V any](m map[Key]V) []Key {
	keys := make([]Key, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y Key) int { return strings.Compare(x.String(), y.String()) })
	return keys
}
