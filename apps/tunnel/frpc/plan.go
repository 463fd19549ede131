package frpc

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"ztm/apps/tunnel/spec"
	"ztm/tunnel/identity"
	"ztm/tunnel/shellwords"
)

// Plan is what to do for the same as a file.
type Plan struct {
	Steps []Step   `json:"steps"`
	Left  []string `json:"left,omitempty"` // what is left out, and why

	seen map[string]int // where in Steps an end of a tunnel is, by its kind, name and place
}

// Step opens one end of a tunnel: it is one command.
type Step struct {
	At      string              `json:"at,omitempty"` // the endpoint; "" is the one where frp's client is
	Kind    string              `json:"kind"`         // "inbound" or "outbound"
	Tunnel  string              `json:"tunnel"`       // "tcp/web"
	Options map[string][]string `json:"options"`
	Wanted  bool                `json:"wanted,omitempty"` // it is for whoever wants the service, and nobody said where that is
}

// String is the step as a command line of a shell.
func (s Step) String() string {
	words := []string{"ztm"}
	if s.At != "" {
		words = append(words, "ep", s.At)
	}
	words = append(words, "tunnel", "open", s.Kind, s.Tunnel)
	for _, name := range slices.Sorted(maps.Keys(s.Options)) {
		words = append(append(words, "--"+name), s.Options[name]...)
	}
	return shellwords.Here(words...)
}

// Plan returns the commands. server is the endpoint that listens in place of frp's server; "" leaves
// open which one that is.
func (c *Config) Plan(server string) Plan {
	p := Plan{seen: map[string]int{}}
	for i, x := range c.Proxies {
		if err := p.proxy(x, server); err != nil {
			p.leave("proxy", cmp.Or(x.Name, strconv.Itoa(i+1)), err)
		}
	}
	for i, v := range c.Visitors {
		if err := p.visitor(v); err != nil {
			p.leave("visitor", cmp.Or(v.Name, strconv.Itoa(i+1)), err)
		}
	}
	return p
}

func (p *Plan) leave(what, name string, why error) {
	p.Left = append(p.Left, fmt.Sprintf("%s %q: %v", what, name, why))
}

var errOff = errors.New("it is not enabled")

// proxy adds the outbound of a proxy, and the inbound of its port at the server.
func (p *Plan) proxy(x proxy, server string) error {
	protocol, err := x.protocol()
	if err != nil {
		return err
	}
	key := spec.Key{Protocol: protocol, Name: cmp.Or(x.LoadBalancer.Group, x.Name)}
	if err := key.Validate(); err != nil {
		return err
	}
	options, err := x.options()
	if err != nil {
		return err
	}
	if err := p.outbound(key.String(), options); err != nil {
		return err
	}
	if slices.Contains(x.AllowUsers, "*") {
		p.leave("proxy", x.Name, fmt.Errorf("all users of frp: name those who may: ztm tunnel set outbound %s --users USER", key))
	}
	if x.RemotePort == 0 {
		return nil
	}
	if x.RemotePort < 0 || x.RemotePort > 65535 {
		return fmt.Errorf("%d is not a port", x.RemotePort)
	}
	listen := "*:" + strconv.Itoa(x.RemotePort)
	if server == "" {
		listen = strconv.Itoa(x.RemotePort)
	}
	p.inbound(Step{At: server, Tunnel: key.String(), Options: map[string][]string{"listen": {listen}}, Wanted: server == ""})
	return nil
}

// outbound adds an outbound, or a target to one of the same name: a group.
func (p *Plan) outbound(tunnel string, options map[string][]string) error {
	first, there := p.seen[spec.OutboundKind+tunnel]
	if !there {
		p.add(spec.OutboundKind+tunnel, Step{Kind: spec.OutboundKind, Tunnel: tunnel, Options: options})
		return nil
	}
	old, target := p.Steps[first].Options, options["targets"]
	if slices.Contains(old["targets"], target[0]) {
		return errors.New("it is there twice")
	}
	old["targets"] = append(old["targets"], target...)
	return nil
}

// inbound adds an inbound. That of a group is there once.
func (p *Plan) inbound(s Step) {
	s.Kind = spec.InboundKind
	key := s.String()
	if _, there := p.seen[key]; !there {
		p.add(key, s)
	}
}

func (p *Plan) add(key string, s Step) {
	p.seen[key] = len(p.Steps)
	p.Steps = append(p.Steps, s)
}

// protocol is what the proxy carries, or why it cannot be a tunnel.
func (x proxy) protocol() (string, error) {
	switch {
	case x.off():
		return "", errOff
	case x.Plugin != nil && x.Plugin.kind != "unix_domain_socket":
		return "", instead(x.Plugin.kind)
	}
	switch x.Type {
	case "tcp", "stcp", "xtcp":
		return spec.TCP, nil
	case "udp", "sudp":
		return spec.UDP, nil
	case "http", "https", "tcpmux":
		return "", fmt.Errorf("type %s: there is no public web server here that knows sites by their names; who has no agent needs one beside the hub", x.Type)
	}
	return "", fmt.Errorf("type %q is not known", x.Type)
}

// instead says what to use in place of a plugin.
func instead(kind string) error {
	switch kind {
	case "static_file":
		return errors.New("plugin static_file: files are shared by: ztm file allow PATH --users USER")
	case "http_proxy", "socks5":
		return fmt.Errorf("plugin %s: an endpoint is an exit by: ztm proxy config --add-target '*'", kind)
	}
	return fmt.Errorf("plugin %q: there is none here", kind)
}

// options are those of the outbound.
func (x proxy) options() (map[string][]string, error) {
	target, err := x.target()
	if err != nil {
		return nil, err
	}
	o := map[string][]string{"targets": {target}}
	if users := slices.DeleteFunc(slices.Clone(x.AllowUsers), func(u string) bool { return u == "*" }); len(users) > 0 {
		o["users"] = users
	}
	for _, u := range o["users"] {
		if err := identity.CheckName(u); err != nil {
			return nil, err
		}
	}
	switch h := x.HealthCheck; {
	case h.Type == "http":
		o["check"] = []string{"http:/" + strings.TrimPrefix(h.Path, "/")}
	case h.Type != "":
		o["check"] = []string{h.Type}
	}
	if v := x.Transport.ProxyProtocolVersion; v != "" {
		o["proxy-protocol"] = []string{v}
	}
	if limit := x.Transport.BandwidthLimit; limit != "" {
		rate := strings.Replace(limit, "B", "iB", 1) + "/s" // units of frp are those of 1024
		if _, err := spec.ParseRate(rate); err != nil {
			return nil, fmt.Errorf("bandwidthLimit: %w", err)
		}
		o["rate"] = []string{rate}
	}
	return o, nil
}

// target is where the proxy connects to.
func (x proxy) target() (string, error) {
	text := net.JoinHostPort(cmp.Or(x.LocalIP, "127.0.0.1"), strconv.Itoa(x.LocalPort))
	if x.Plugin != nil {
		text = spec.UnixPrefix + x.Plugin.unixPath
	}
	a, err := spec.ParseAddress(text)
	if err == nil {
		err = a.ValidateTarget()
	}
	return text, err
}

// visitor adds the inbound of a visitor.
func (p *Plan) visitor(v visitor) error {
	switch {
	case v.off():
		return errOff
	case v.Plugin != nil:
		return instead(v.Plugin.kind)
	case v.BindPort <= 0:
		return errors.New("it has no port to listen on")
	}
	key := spec.Key{Protocol: spec.TCP, Name: v.ServerName}
	if v.Type == "sudp" {
		key.Protocol = spec.UDP
	}
	if err := key.Validate(); err != nil {
		return err
	}
	listen := net.JoinHostPort(cmp.Or(v.BindAddr, "127.0.0.1"), strconv.Itoa(v.BindPort))
	if _, err := spec.ParseAddress(listen); err != nil {
		return err
	}
	s := Step{Tunnel: key.String(), Options: map[string][]string{"listen": {listen}}}
	if v.ServerUser != "" {
		if err := identity.CheckName(v.ServerUser); err != nil {
			return err
		}
		s.Options["exits-of"] = []string{v.ServerUser}
	}
	p.inbound(s)
	return nil
}
