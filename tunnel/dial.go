package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/direct"
	"ztm/tunnel/race"
)

// Timeouts for setting up a connection, and for the acknowledgement of data by a peer.
const (
	DialTimeout      = 10 * time.Second
	HandshakeTimeout = 10 * time.Second
	DeadPeerTimeout  = 15 * time.Second
)

// Dialer connects to hubs, through a proxy if one is set. The zero value dials directly. It is safe
// for concurrent use.
type Dialer struct {
	Proxy *Proxy // nil is none
}

// Direct reports whether a hub is dialled by this machine, and not by a proxy.
func (d *Dialer) Direct(address string) bool { return d.Proxy == nil || d.Proxy.direct(address) }

// Dial opens a TCP connection to a hub. A failure of the proxy is a [*ProxyError].
func (d *Dialer) Dial(ctx context.Context, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	nd := &net.Dialer{KeepAliveConfig: KeepAlive(), Control: controlDial}
	if d.Direct(address) {
		return nd.DialContext(ctx, "tcp", address)
	}
	return d.Proxy.dial(ctx, nd, address)
}

// controlDial prepares a connection with a hub. A direct path is dialled from the port of one.
func controlDial(_, _ string, rc syscall.RawConn) error {
	return errors.Join(direct.Reuse(rc), setUserTimeout(rc, DeadPeerTimeout))
}

// TuneAccepted sets on an accepted connection what Dial sets on its own.
func TuneAccepted(c *net.TCPConn) {
	c.SetKeepAliveConfig(KeepAlive())
	if rc, err := c.SyscallConn(); err == nil {
		setUserTimeout(rc, DeadPeerTimeout)
	}
}

// Unhurried removes DeadPeerTimeout from a connection that has become a path. Linux applies that
// timeout to a peer that is alive but whose window is closed, and a reader on a path may pause
// for any time. The sealed session checks whether the peer is alive.
func Unhurried(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		if rc, err := tcp.SyscallConn(); err == nil {
			setUserTimeout(rc, 0)
		}
	}
}

// KeepAlive detects a dead peer on an idle connection within 75 s + 3 × 10 s. While data waits for
// an acknowledgement, DeadPeerTimeout applies. A session that is at rest sends a PING more often
// than that, so that there it sends nothing.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: 75 * time.Second, Interval: 10 * time.Second, Count: 3}
}

// mostPlaces is the most addresses of one name that are tried.
const mostPlaces = 16

// placeDelay is how long a place may take before the next one of the same name is tried as well.
const placeDelay = 300 * time.Millisecond

// Lookup returns the addresses of a host, as [net.Resolver.LookupNetIP] does.
type Lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

// Places returns where a hub may be, as ip:port: behind one name there may be several hubs.
func Places(ctx context.Context, lookup Lookup, address string) (places []string, err error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	addrs, err := lookup(ctx, "ip", host)
	for _, a := range addrs[:min(len(addrs), mostPlaces)] {
		places = append(places, net.JoinHostPort(a.Unmap().String(), port))
	}
	return places, err
}

// dialTLS connects and completes the handshake. The second connection is what TLS runs on. A proxy
// chooses a place by itself.
func dialTLS(ctx context.Context, d *Dialer, address string, config *tls.Config) (*tls.Conn, *RecordConn, error) {
	config = named(config, address)
	places := []string{address}
	if d.Direct(address) {
		d = &Dialer{} // an exception of the proxy may be for the name alone
		if all, err := Places(ctx, net.DefaultResolver.LookupNetIP, address); err == nil && len(all) > 0 {
			places = all
		}
	}
	return reach(ctx, d, places, config)
}

// reach completes the handshake with the first of some places whose hub is the one that config wants:
// it may be another's, or one that says nothing.
func reach(ctx context.Context, d *Dialer, places []string, config *tls.Config) (*tls.Conn, *RecordConn, error) {
	got, i, errs := race.First(ctx, len(places), placeDelay, func(ctx context.Context, i int) (io.Closer, error) {
		return shake(ctx, d, places[i], config)
	})
	if i < 0 {
		return nil, nil, answer.Join(errs...)
	}
	s := got.(*shaken)
	return s.Conn, s.below, nil
}

// shaken is a connection whose handshake is complete.
type shaken struct {
	*tls.Conn
	below *RecordConn
}

// Close does not wait for the other end, as that of [tls.Conn] may.
func (s *shaken) Close() error { return s.below.Close() }

func shake(ctx context.Context, d *Dialer, place string, config *tls.Config) (*shaken, error) {
	raw, err := d.Dial(ctx, place)
	if err != nil {
		return nil, err
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
		if isAlert(err, alertNoProtocol) {
			err = fmt.Errorf("%w: it does not speak %s", ErrVersion, strings.Join(config.NextProtos, " or "))
		}
		return nil, fmt.Errorf("handshake with %s: %w", place, err)
	}
	below.Meter.Over()
	return &shaken{c, below}, nil
}

// named returns a configuration that says in its handshake for which host it is, unless it says so
// already: a proxy before several hubs chooses by that (RFC 6066 section 3). Who the hub is, its
// certificate says alone.
func named(config *tls.Config, address string) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if err != nil || config.ServerName != "" {
		return config
	}
	config = config.Clone()
	config.ServerName = host // crypto/tls leaves an address out
	return config
}

// ErrVersion is returned when a hub speaks none of the protocols that it was offered: one of the
// two is older than the protocol of the other.
var ErrVersion = errors.New("the hub has another version, update the older of the two")

// alertNoProtocol is the alert no_application_protocol (RFC 7301 section 3.2).
const alertNoProtocol = tls.AlertError(120)

// isAlert reports whether err is an alert of the peer. crypto/tls has no type for those but their
// text.
func isAlert(err error, alert tls.AlertError) bool {
	var remote *net.OpError
	return errors.As(err, &remote) && remote.Op == "remote error" && remote.Err.Error() == alert.Error()
}
