package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/proxy"
)

// Timeouts of everything that sets up a connection, and how long the kernel waits for an acknowledgement of data.
const (
	DialTimeout      = 10 * time.Second
	HandshakeTimeout = 10 * time.Second
	DeadPeerTimeout  = 15 * time.Second
)

// Dialer connects to hubs, through a proxy if one is set. The zero value dials directly. It is safe for concurrent use.
type Dialer struct {
	Proxy *url.URL // http://[user:password@]host:port or socks5://…; nil: none
}

// ParseProxy checks the text of a --proxy option; "" gives nil.
func ParseProxy(s string) (*url.URL, error) {
	if s == "" {
		return nil, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Port() == "" || u.Scheme != "http" && u.Scheme != "socks5" && u.Scheme != "socks5h" {
		return nil, fmt.Errorf("proxy %q: want http://host:port or socks5://host:port", redactURL(s))
	}
	return u, nil
}

// redactURL keeps a password out of an error.
func redactURL(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "…" + s[i:]
	}
	return s
}

// Dial opens a TCP connection to a hub.
func (d *Dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	nd := &net.Dialer{KeepAliveConfig: KeepAlive(), Control: controlDial}
	switch {
	case d.Proxy == nil:
		return nd.DialContext(ctx, "tcp", address)
	case d.Proxy.Scheme == "http":
		return dialHTTPProxy(ctx, nd, d.Proxy, address)
	}
	var auth *proxy.Auth
	if u := d.Proxy.User; u != nil {
		password, _ := u.Password()
		auth = &proxy.Auth{User: u.Username(), Password: password}
	}
	// x/net hides the socket in a type of its own; carriers want the socket itself.
	forward := &keepConn{nd: nd}
	socks, err := proxy.SOCKS5("tcp", d.Proxy.Host, auth, forward)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %v", d.Proxy.Host, err)
	}
	if _, err := socks.(proxy.ContextDialer).DialContext(ctx, "tcp", address); err != nil {
		return nil, fmt.Errorf("through proxy %s: %w", d.Proxy.Host, err)
	}
	return forward.conn, nil
}

// keepConn dials the SOCKS server and remembers the connection. It serves one dial.
type keepConn struct {
	nd   *net.Dialer
	conn net.Conn
}

func (k *keepConn) Dial(network, address string) (net.Conn, error) {
	return k.DialContext(context.Background(), network, address)
}

func (k *keepConn) DialContext(ctx context.Context, network, address string) (_ net.Conn, err error) {
	k.conn, err = k.nd.DialContext(ctx, network, address)
	return k.conn, err
}

func controlDial(_, _ string, rc syscall.RawConn) error { return setUserTimeout(rc, DeadPeerTimeout) }

// TuneAccepted sets on an accepted connection what Dial sets on its own.
func TuneAccepted(c *net.TCPConn) {
	c.SetKeepAliveConfig(KeepAlive())
	if rc, err := c.SyscallConn(); err == nil {
		setUserTimeout(rc, DeadPeerTimeout)
	}
}

// Unhurried takes DeadPeerTimeout off a connection that has become a carrier. Linux counts a peer that is alive but takes no
// data, its window shut, as one that does not answer; and a reader in a carrier may take as long as it wants. Whether the
// peer lives is asked in the sealed session.
func Unhurried(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		if rc, err := tcp.SyscallConn(); err == nil {
			setUserTimeout(rc, 0)
		}
	}
}

// KeepAlive finds a peer that vanished without a word: 30 s + 3 × 10 s on a silent connection. While data waits for an
// acknowledgement, DeadPeerTimeout is what counts.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 3}
}

// dialHTTPProxy asks an HTTP proxy for a tunnel (RFC 9110 section 9.3.6).
func dialHTTPProxy(ctx context.Context, nd *net.Dialer, p *url.URL, address string) (_ net.Conn, err error) {
	c, err := nd.DialContext(ctx, "tcp", p.Host)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			c.Close()
		}
	}()
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", address, address)
	if u := p.User; u != nil {
		password, _ := u.Password()
		fmt.Fprintf(&b, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password)))
	}
	b.WriteString("\r\n")
	if _, err := c.Write([]byte(b.String())); err != nil {
		return nil, fmt.Errorf("proxy %s: %w", p.Host, err)
	}
	// One byte a read: what follows the answer belongs to the connection. The hub speaks second, so nothing does.
	resp, err := http.ReadResponse(bufio.NewReaderSize(oneByte{c}, 16), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", p.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("proxy %s refuses a tunnel to %s: %s", p.Host, address, resp.Status)
	}
	return c, nil
}

type oneByte struct{ net.Conn }

func (c oneByte) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return c.Conn.Read(p[:1])
}

// dialTLS connects and completes the handshake. The second connection is what TLS runs on.
func dialTLS(ctx context.Context, d *Dialer, address string, config *tls.Config) (*tls.Conn, *RecordConn, error) {
	raw, err := d.Dial(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	below := &RecordConn{Conn: raw}
	c := tls.Client(below, config)
	ctx, cancel := context.WithTimeout(ctx, HandshakeTimeout)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no TLS handshake within %v", HandshakeTimeout)
		}
		return nil, nil, fmt.Errorf("handshake with %s: %w", address, err)
	}
	return c, below, nil
}

// ProxyFromEnvironment returns the proxy that HTTPS_PROXY (or https_proxy) names; nil if there is none. NO_PROXY is not looked at: a
// hub that is to be reached directly is reached with an agent that has no HTTPS_PROXY.
func ProxyFromEnvironment() (*url.URL, error) {
	s := os.Getenv("HTTPS_PROXY")
	if s == "" {
		s = os.Getenv("https_proxy")
	}
	u, err := ParseProxy(s)
	if err != nil {
		return nil, fmt.Errorf("HTTPS_PROXY: %v", err)
	}
	return u, nil
}
