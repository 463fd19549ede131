package tunnel_test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/balance"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

func TestInboundTakesTheClientFromItsProxyHeader(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	ln := tunneltest.ListenTCP(t, "127.0.0.1:0")
	tunneltest.Serve(t, ln, "hello")
	seen := make(chan string, 1)
	front := tunneltest.ListenTCP(t, "127.0.0.1:0")
	go func() {
		c, err := front.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		line, _ := tunneltest.ReadLine(c)
		rest, _ := tunneltest.ReadLine(c)
		seen <- line + "|" + rest
	}()
	b.Offer(t, "tcp/web", front.Addr().String(), `"proxyProtocol":"v1"`)
	address := a.Listen(t, "tcp/web", `"acceptProxyProtocol":true`)

	silent := tunneltest.Dial(t, address)
	io.WriteString(silent, "GET / HTTP/1.1\r\n\r\n")
	if _, err := io.ReadAll(silent); err == nil {
		t.Error("a client without a header was not reset")
	}
	appstest.Eventually(t, "that is counted", func() bool {
		return a.InboundStatus(t, "tcp/web").Stats.Errors[answer.BadRequest] == 1
	})
	c := tunneltest.Dial(t, address)
	io.WriteString(c, "PROXY TCP4 192.0.2.1 198.51.100.7 5000 80\r\nmine\n")
	if got, want := <-seen, "PROXY TCP4 192.0.2.1 198.51.100.7 5000 80\r|mine"; got != want {
		t.Errorf("the target saw %q, want %q", got, want)
	}
}

func TestNginxAndHAProxySeeTheRealClient(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"v1", "v2"} {
		t.Run("nginx "+version, func(t *testing.T) {
			program(t, "nginx-light", "nginx")
			address := appstest.FreeAddress(t)
			config := filepath.Join(dir, "nginx-"+version)
			os.WriteFile(config, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s.pid; error_log %[1]s.log; user root;
				events {}
				http {
					access_log off; client_body_temp_path %[1]s.b; proxy_temp_path %[1]s.p; fastcgi_temp_path %[1]s.f;
					uwsgi_temp_path %[1]s.u; scgi_temp_path %[1]s.s;
					server { listen %[2]s proxy_protocol; location / { return 200 "$proxy_protocol_addr $proxy_protocol_port\n"; } }
				}`, config, address), 0o600)
			start(t, "nginx-light", address, "nginx", "-c", config)
			wantRealClient(t, address, version)
		})
		t.Run("haproxy "+version, func(t *testing.T) {
			program(t, "haproxy", "haproxy")
			address := appstest.FreeAddress(t)
			config := filepath.Join(dir, "haproxy-"+version)
			os.WriteFile(config, fmt.Appendf(nil, `
defaults
	mode http
	timeout client 20s
	timeout server 20s
	timeout connect 20s
frontend f
	bind %s accept-proxy
	http-request return status 200 content-type text/plain lf-string "%%[src] %%[src_port]\n"
`, address), 0o600)
			start(t, "haproxy", address, "haproxy", "-db", "-f", config)
			wantRealClient(t, address, version)
		})
	}
}

// wantRealClient wants a server to name the address from which a client connects to the entrance.
func wantRealClient(t *testing.T, server, version string) {
	t.Helper()
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", server, `"proxyProtocol":"`+version+`"`, `"check":"http:/"`)
	c := tunneltest.Dial(t, a.Listen(t, "tcp/web"))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(c)
	want := strings.Replace(c.LocalAddr().String(), ":", " ", 1) + "\n"
	if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\n"+want) {
		t.Errorf("got %q, %v; want %q", answer, err, want)
	}
	appstest.Eventually(t, "the check, which speaks for itself, finds the server up", func() bool {
		return b.OutboundStatus(t, "tcp/web").Health[0].State == balance.Up
	})
}
