// Package loopback serves HTTP to programs of this machine, and to no web page that a browser of
// this machine shows.
//
// A page can make its browser ask any address, also 127.0.0.1. The browser hides the answer from a
// page of another origin. A page evades that with a name of its own that resolves to 127.0.0.1 (DNS
// rebinding). Its requests then name that host, which [Guard] refuses. Requests of a page from
// elsewhere name their Origin, which it refuses as well.
package loopback

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"ztm/tunnel/limit"
)

// Limits of [Serve].
const (
	headerTimeout  = 2 * time.Second  // for the header of a request to arrive
	bodyTimeout    = 30 * time.Second // for all of a request to arrive
	answerTimeout  = 30 * time.Second // for an answer to be taken
	idleTimeout    = time.Minute      // between two requests
	maxHeader      = 8 << 10          // bytes
	maxConnections = 64
)

// Check returns an error unless address is an IP address of this machine alone, with a port.
func Check(address string) error {
	if a, err := netip.ParseAddrPort(address); err != nil || !a.Addr().IsLoopback() {
		return fmt.Errorf("address %q: want a loopback address:port such as 127.0.0.1:9100", address)
	}
	return nil
}

// Listen opens a listener for [Serve]. The address must pass [Check].
func Listen(address string) (net.Listener, error) {
	if err := Check(address); err != nil {
		return nil, err
	}
	return net.Listen("tcp", address)
}

// ListenMetrics is [Listen] for counters, of which the error speaks; nil where the address is "".
func ListenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	ln, err := Listen(address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return ln, nil
}

// ListenApart opens a listener for [Serve] at a port and an address that nothing else listens at. A
// browser sends the cookies of an address to all ports of it, so to other programs of this machine,
// too, which may be those of other users. Where the system has a single loopback address, it is that
// one.
func ListenApart() (net.Listener, error) {
	a := [4]byte{127}
	rand.Read(a[1:])
	a[3] = a[3]%254 + 1 // neither the first nor the last address of a network
	if ln, err := net.Listen("tcp", netip.AddrPortFrom(netip.AddrFrom4(a), 0).String()); err == nil {
		return ln, nil
	}
	return Listen("127.0.0.1:0")
}

// Serve serves requests that pass [Guard] until ctx ends, and closes ln. It returns nil then, and
// an error if it cannot accept connections before. Slow and idle clients are cut off; log gets what
// goes wrong with one, at level DEBUG.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           Guard(h),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      answerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState:         limit.Connections(maxConnections),
	}
	defer context.AfterFunc(ctx, func() { s.Close() })()
	if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Guard passes on the requests that are made to this machine by its own name or address, and
// answers 403 to all others.
func Guard(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r.Host) || !SameOrigin(r) {
			http.Error(w, "this server is for programs of its own machine", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// local reports whether a Host field names this machine, whatever the port: it may have been
// forwarded.
func local(hostport string) bool {
	host := hostport
	if h, port, err := net.SplitHostPort(hostport); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		host = h
	} else if inner, ok := strings.CutPrefix(hostport, "["); ok {
		if host, ok = strings.CutSuffix(inner, "]"); !ok {
			return false
		}
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Zone() == "" && a.IsLoopback()
}

// SameOrigin reports whether a request comes from a page of this server, or from no page at all. An
// Origin field names scheme, host and port (RFC 6454 section 7); several of them or "null" is
// another origin.
func SameOrigin(r *http.Request) bool {
	origins := r.Header.Values("Origin")
	return len(origins) == 0 || len(origins) == 1 && origins[0] == "http://"+r.Host
}
