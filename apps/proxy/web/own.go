package web

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"ztm/apps/reach"
	"ztm/tunnel/answer"
)

// serveOwn answers requests to the proxy itself.
func (w *Server) serveOwn(rw http.ResponseWriter, r *http.Request, c *client) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.URL.Path != "/proxy.pac" && r.URL.Path != "/wpad.dat" {
		w.say(rw, http.StatusBadRequest, string(answer.BadRequest), "this is a proxy: want CONNECT or an absolute URL, or GET /proxy.pac")
		return
	}
	host, ok := ownHost(r.Host)
	if !ok {
		// A page whose name was made to resolve to this address is not to learn which names there are.
		w.say(rw, http.StatusMisdirectedRequest, string(answer.Denied), "ask for /proxy.pac by address or by a name without dots")
		return
	}
	if !fromHere(c.RemoteAddr()) && !w.authorized(r, "Authorization", c) {
		rw.Header().Set("WWW-Authenticate", `Basic realm="ztm proxy"`)
		w.say(rw, http.StatusUnauthorized, string(answer.Denied), "this proxy wants a user and a password")
		return
	}
	script, err := w.router.PAC(r.Context(), host)
	if err != nil {
		w.fail(rw, err)
		return
	}
	rw.Header().Set("Content-Type", "application/x-ns-proxy-autoconfig")
	rw.Header().Set("Cache-Control", "no-cache")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.Write(script)
}

// ownHost checks a Host field that names this proxy: an address, or a name that nobody else can own.
func ownHost(hostport string) (string, bool) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		host, port = strings.Trim(hostport, "[]"), defaultHTTPPort
	}
	n, err := reach.ParsePort(port)
	if err != nil {
		return "", false
	}
	d, err := reach.NewDest(host, n)
	if err != nil || strings.Contains(d.Name, ".") {
		return "", false
	}
	return net.JoinHostPort(d.Host(), strconv.Itoa(int(n))), true
}

// fromHere reports whether a client is a program of this device.
func fromHere(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err != nil && a.Network() == "unix" || err == nil && ap.Addr().Unmap().IsLoopback()
}
