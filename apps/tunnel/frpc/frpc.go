// Package frpc reads the configuration of frp's client and says what the same is in this program.
//
//	frpc.toml -> parseTOML: tables -> [Read]: a [Config] -> [Config.Plan]: the commands, and what is left out and why
//
// A key that frp does not know is an error. What frp has and this program has not is named, and the
// rest goes on.
package frpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Config is what a file says. Of the rest of frp's keys the names are known, so that a slip is
// noticed.
type Config struct {
	Proxies  []proxy   `json:"proxies"`
	Visitors []visitor `json:"visitors"`
	ignored
}

// ignored is what concerns the way between frp's client and its server. A mesh has its own.
type ignored struct {
	User              any `json:"user"`
	ClientID          any `json:"clientID"`
	ServerAddr        any `json:"serverAddr"`
	ServerPort        any `json:"serverPort"`
	LoginFailExit     any `json:"loginFailExit"`
	Start             any `json:"start"`
	Includes          any `json:"includes"`
	NatHoleStunServer any `json:"natHoleStunServer"`
	DNSServer         any `json:"dnsServer"`
	UDPPacketSize     any `json:"udpPacketSize"`
	Metadatas         any `json:"metadatas"`
	FeatureGates      any `json:"featureGates"`
	VirtualNet        any `json:"virtualNet"`
	Auth              any `json:"auth"`
	Transport         any `json:"transport"`
	Log               any `json:"log"`
	WebServer         any `json:"webServer"`
	Store             any `json:"store"`
}

// common is what proxies and visitors have in common.
type common struct {
	Name         string `json:"name"`
	Type         string `json:"type"`
	Enabled      *bool  `json:"enabled"`
	SecretKey    any    `json:"secretKey"` // a tunnel knows its users by their certificates
	NatTraversal any    `json:"natTraversal"`
	Annotations  any    `json:"annotations"`
	Metadatas    any    `json:"metadatas"`
}

// off reports whether frp would leave it out.
func (c common) off() bool { return c.Enabled != nil && !*c.Enabled }

type proxy struct {
	common
	LocalIP      string   `json:"localIP"`
	LocalPort    int      `json:"localPort"`
	RemotePort   int      `json:"remotePort"`
	AllowUsers   []string `json:"allowUsers"`
	LoadBalancer struct {
		Group    string `json:"group"`
		GroupKey any    `json:"groupKey"`
	} `json:"loadBalancer"`
	HealthCheck struct {
		Type            string `json:"type"`
		Path            string `json:"path"`
		TimeoutSeconds  any    `json:"timeoutSeconds"`
		MaxFailed       any    `json:"maxFailed"`
		IntervalSeconds any    `json:"intervalSeconds"`
		HTTPHeaders     any    `json:"httpHeaders"`
	} `json:"healthCheck"`
	Transport struct {
		BandwidthLimit       string `json:"bandwidthLimit"`
		BandwidthLimitMode   any    `json:"bandwidthLimitMode"`
		ProxyProtocolVersion string `json:"proxyProtocolVersion"`
		UseEncryption        any    `json:"useEncryption"`
		UseCompression       any    `json:"useCompression"`
	} `json:"transport"`
	Plugin *plugin `json:"plugin"`
	site
}

// site is what proxies of web sites have.
type site struct {
	CustomDomains     any `json:"customDomains"`
	Subdomain         any `json:"subdomain"`
	Locations         any `json:"locations"`
	HTTPUser          any `json:"httpUser"`
	HTTPPassword      any `json:"httpPassword"`
	HostHeaderRewrite any `json:"hostHeaderRewrite"`
	RequestHeaders    any `json:"requestHeaders"`
	ResponseHeaders   any `json:"responseHeaders"`
	RouteByHTTPUser   any `json:"routeByHTTPUser"`
	Multiplexer       any `json:"multiplexer"`
}

// plugin is what serves in place of a local port. Its other keys are its own.
type plugin struct{ kind, unixPath string }

// UnmarshalJSON reads the keys that matter here.
func (p *plugin) UnmarshalJSON(b []byte) error {
	var v struct{ Type, UnixPath string }
	err := json.Unmarshal(b, &v)
	*p = plugin{v.Type, v.UnixPath}
	return err
}

type visitor struct {
	common
	ServerUser string `json:"serverUser"`
	ServerName string `json:"serverName"`
	BindAddr   string `json:"bindAddr"`
	BindPort   int    `json:"bindPort"`

	Transport         any     `json:"transport"`
	Protocol          any     `json:"protocol"`
	KeepTunnelOpen    any     `json:"keepTunnelOpen"`
	MaxRetriesAnHour  any     `json:"maxRetriesAnHour"`
	MinRetryInterval  any     `json:"minRetryInterval"`
	FallbackTo        any     `json:"fallbackTo"`
	FallbackTimeoutMs any     `json:"fallbackTimeoutMs"`
	Plugin            *plugin `json:"plugin"`
}

// Read reads a file in TOML. Errors say where it is wrong, or what is to be done first.
func Read(from io.Reader) (*Config, error) {
	text, err := io.ReadAll(io.LimitReader(from, maxFile+1))
	if err != nil {
		return nil, err
	}
	if bytes.Contains(text, []byte("{{")) {
		return nil, errors.New("it is a template: put its values in first")
	}
	tree, err := parseTOML(string(text))
	if _, old := tree["common"]; old || err != nil && strings.Contains("\n"+string(text), "\n[common]") {
		return nil, errors.New("it has the old form of frp, INI: frp's pages say how to make TOML of it")
	}
	if err != nil {
		return nil, err
	}
	plain, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	var c Config
	if err := d.Decode(&c); err != nil {
		return nil, understandable(err)
	}
	return &c, nil
}

// understandable says for a person, who wrote TOML, what is wrong with a key.
func understandable(err error) error {
	var typ *json.UnmarshalTypeError
	if errors.As(err, &typ) {
		return fmt.Errorf("%s cannot be a %s", typ.Field, typ.Value)
	}
	return errors.New(strings.Replace(strings.TrimPrefix(err.Error(), "json: "), "unknown field", "frp has no key", 1))
}
