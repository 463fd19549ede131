package tunnel

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// Proxy is an HTTP or SOCKS5 proxy through which hubs are reached. It does not change after it was
// made.
type Proxy struct {
	URL    *url.URL // http://[user:password@]host:port or socks5://…
	except []exception
}

// ProxyError is a failure of the proxy, not of the hub behind it: the proxy was not reached, or it
// refused. Its text has no password.
type ProxyError struct {
	Proxy string // host:port
	Err   error
}

func (e *ProxyError) Error() string { return "proxy " + e.Proxy + ": " + e.Err.Error() }
func (e *ProxyError) Unwrap() error { return e.Err }

// ParseProxy parses the --proxy option; "" gives nil. The proxy is used for all hubs. An error does
// not show a password.
func ParseProxy(s string) (*Proxy, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "http" && u.Scheme != "socks5" && u.Scheme != "socks5h" {
		return nil, fmt.Errorf("proxy %q: want http://host:port or socks5://host:port", redactURL(s))
	}
	return &Proxy{URL: u}, nil
}

// redactURL keeps a password out of an error.
func redactURL(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// ProxyFromEnvironment returns the proxy of HTTPS_PROXY (or https_proxy), or nil. It is used for
// all hubs except those of NO_PROXY (or no_proxy) and those on this machine. An address without a
// scheme is that of an HTTP proxy, as in net/http.
func ProxyFromEnvironment() (*Proxy, error) {
	s := cmp.Or(os.Getenv("HTTPS_PROXY"), os.Getenv("https_proxy"))
	if s != "" && !strings.Contains(s, "://") {
		s = "http://" + s
	}
	p, err := ParseProxy(s)
	if err != nil {
		return nil, fmt.Errorf("HTTPS_PROXY: %v", err)
	}
	if p != nil {
		p.except = append(exceptions(cmp.Or(os.Getenv("NO_PROXY"), os.Getenv("no_proxy"))), here()...)
	}
	return p, nil
}

// exception is one entry of NO_PROXY.
type exception struct {
	prefix netip.Prefix // of addresses; invalid for a name
	name   string       // with a leading dot; "" for addresses
	below  bool         // only subdomains of name match
	port   string       // "" is all
}

// here are the addresses of this machine, which a proxy on another machine cannot reach.
func here() []exception {
	return []exception{{prefix: netip.MustParsePrefix("127.0.0.0/8")}, {prefix: netip.MustParsePrefix("::1/128")}, {name: ".localhost"}}
}

// exceptions parses NO_PROXY by the rules of net/http. Entries are separated by commas or spaces.
// An entry is "*", an address, a CIDR block, a domain with its subdomains, or ".domain" or
// "*.domain" for its subdomains alone. All but a block may end in ":port". Other entries match
// nothing.
func exceptions(list string) []exception {
	var out []exception
	for _, entry := range strings.FieldsFunc(strings.ToLower(list), func(r rune) bool { return r == ',' || r <= ' ' }) {
		if entry == "*" {
			return []exception{{prefix: netip.MustParsePrefix("0.0.0.0/0")}, {prefix: netip.MustParsePrefix("::/0")}, {}}
		}
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			out = append(out, exception{prefix: prefix.Masked()})
			continue
		}
		host, port, err := net.SplitHostPort(entry)
		if err != nil {
			host, port = entry, ""
		}
		if ip, err := netip.ParseAddr(host); err == nil {
			ip = ip.Unmap()
			out = append(out, exception{prefix: netip.PrefixFrom(ip, ip.BitLen()), port: port})
		} else if host != "" {
			if strings.HasPrefix(host, "*.") {
				host = host[1:]
			}
			below := host[0] == '.'
			out = append(out, exception{name: "." + strings.TrimPrefix(host, "."), below: below, port: port})
		}
	}
	return out
}

// direct reports whether a hub is dialled without the proxy.
func (p *Proxy) direct(address string) bool {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	host = strings.ToLower(host)
	ip, err := netip.ParseAddr(host)
	ip = ip.Unmap()
	for _, e := range p.except {
		if e.port != "" && e.port != port {
			continue
		}
		if err == nil && e.prefix.IsValid() && e.prefix.Contains(ip) {
			return true
		}
		if err != nil && !e.prefix.IsValid() && (strings.HasSuffix(host, e.name) || !e.below && "."+host == e.name) {
			return true
		}
	}
	return false
}

// dial opens a connection to a hub through the proxy.
func (p *Proxy) dial(ctx context.Context, nd *net.Dialer, address string) (net.Conn, error) {
	ask := askSOCKS
	if p.URL.Scheme == "http" {
		ask = askHTTPProxy
	}
	c, err := nd.DialContext(ctx, "tcp", p.URL.Host)
	if err == nil {
		stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
		err = ask(c, p.URL.User, address)
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			c.Close()
		}
	}
	if err != nil {
		return nil, &ProxyError{Proxy: p.URL.Host, Err: err}
	}
	return c, nil
}

// askHTTPProxy asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6), which c is from then on.
func askHTTPProxy(c net.Conn, user *url.Userinfo, address string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", address, address)
	if user != nil {
		password, _ := user.Password()
		fmt.Fprintf(&b, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	b.WriteString("\r\n")
	if _, err := c.Write([]byte(b.String())); err != nil {
		return err
	}
	// One byte a read: the bytes after the answer belong to the connection.
	head := bufio.NewReaderSize(io.LimitReader(oneByte{c}, maxProxyHead), 16)
	resp, err := http.ReadResponse(head, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it refuses a tunnel to %s: %.100s", address, resp.Status)
	}
	return nil
}

// maxProxyHead is the longest head of a proxy's answer, in bytes.
const maxProxyHead = 16 << 10

type oneByte struct{ net.Conn }

func (c oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return c.Conn.Read(p[:1])
}
