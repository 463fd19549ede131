package tunnel

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

var (
	header4 = proxyHeader{netip.MustParseAddrPort("192.0.2.1:5000"), netip.MustParseAddrPort("198.51.100.7:80")}
	header6 = proxyHeader{netip.MustParseAddrPort("[2001:db8::1]:5000"), netip.MustParseAddrPort("[2001:db8::2]:80")}
)

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyHeaders(t *testing.T) {
	tests := []struct {
		name, wire string
		want       proxyHeader
		err        string
		made       bool // the same bytes are written
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 198.51.100.7 5000 80\r\n", header4, "", true},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n", header6, "", true},
		{"v1 unknown", "PROXY UNKNOWN\r\n", proxyHeader{}, "", true},
		{"v1 unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", proxyHeader{}, "", false},
		{"v2 IPv4", v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\x13\x88\x00\x50", header4, "", true},
		{"v2 IPv4 with an extension", v2 + "\x21\x11\x00\x10\xc0\x00\x02\x01\xc6\x33\x64\x07\x13\x88\x00\x50\x04\x00\x01x", header4, "", false},
		{"v2 local", v2 + "\x20\x00\x00\x00", proxyHeader{}, "", true},
		{"v2 unix", v2 + "\x21\x31\x00\x02ab", proxyHeader{}, "", false},
		{"no header", "GET / HTTP/1.1\r\n", proxyHeader{}, "does not begin with one", false},
		{"nothing", "", proxyHeader{}, "EOF", false},
		{"v1 without end", "PROXY TCP4 " + strings.Repeat("1", 200), proxyHeader{}, "does not end", false},
		{"v1 cut off", "PROXY TCP4 192.0.2.1 198", proxyHeader{}, "EOF", false},
		{"v1 of the wrong family", "PROXY TCP6 192.0.2.1 198.51.100.7 5000 80\r\n", proxyHeader{}, "makes no sense", false},
		{"v1 bad port", "PROXY TCP4 192.0.2.1 198.51.100.7 5000 65536\r\n", proxyHeader{}, "makes no sense", false},
		{"v1 padded port", "PROXY TCP4 192.0.2.1 198.51.100.7 05000 80\r\n", proxyHeader{}, "makes no sense", false},
		{"v1 other protocol", "PROXY UDP4 192.0.2.1 198.51.100.7 5000 80\r\n", proxyHeader{}, "makes no sense", false},
		{"v2 other version", v2 + "\x11\x11\x00\x00", proxyHeader{}, "unknown version", false},
		{"v2 too short", v2 + "\x21\x11\x00\x04\x01\x02\x03\x04", proxyHeader{}, "too few", false},
		{"v2 too long", v2 + "\x21\x11\xff\xff", proxyHeader{}, "too many", false},
		{"v2 cut off", v2 + "\x21\x11\x00\x0c\x01", proxyHeader{}, "EOF", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			const after = "the client's first bytes"
			r := strings.NewReader(test.wire + after)
			if strings.Contains(test.err, "EOF") {
				r = strings.NewReader(test.wire)
			}
			h, err := readProxyHeader(r)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, %v; want an error with %q", h, err, test.err)
				}
				return
			}
			if err != nil || h != test.want {
				t.Fatalf("got %v, %v; want %v", h, err, test.want)
			}
			if rest, _ := io.ReadAll(r); string(rest) != after {
				t.Errorf("what is left is %q", rest)
			}
			version := ProxyV2
			if strings.HasPrefix(test.wire, "PROXY") {
				version = ProxyV1
			}
			if got := string(h.append(nil, version)); test.made && got != test.wire {
				t.Errorf("written as %q, want %q", got, test.wire)
			}
		})
	}
}

// What is understood is written, in either version, so that it is understood in the same way; and nothing is read
// beyond the header.
func FuzzReadProxyHeader(f *testing.F) {
	for _, v := range []ProxyProtocol{ProxyV1, ProxyV2} {
		for _, h := range []proxyHeader{header4, header6, {}} {
			f.Add(h.append(nil, v))
		}
	}
	f.Add([]byte(v2 + "\x21\x31\x00\x02ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := readProxyHeader(r)
		if err != nil {
			return
		}
		used := b[:len(b)-r.Len()]
		if again, err := readProxyHeader(bytes.NewReader(used)); err != nil || again != h {
			t.Errorf("the header alone gives %v, %v", again, err)
		}
		for _, v := range []ProxyProtocol{ProxyV1, ProxyV2} {
			wire := h.append(nil, v)
			if again, err := readProxyHeader(bytes.NewReader(wire)); err != nil || again != h {
				t.Errorf("%v in %s became %v, %v", h, v, again, err)
			}
			if v == ProxyV1 && len(wire) > maxProxyV1 {
				t.Errorf("%q is too long", wire)
			}
		}
	})
}

func TestProxyHeaderOfWhatTheEntranceSays(t *testing.T) {
	tests := []struct{ client, server, want string }{
		{"192.0.2.1:5000", "198.51.100.7:80", "PROXY TCP4 192.0.2.1 198.51.100.7 5000 80\r\n"},
		{"[::ffff:192.0.2.1]:5000", "[::ffff:198.51.100.7]:80", "PROXY TCP4 192.0.2.1 198.51.100.7 5000 80\r\n"},
		{"[fe80::1%eth0]:5000", "[fe80::2%eth0]:80", "PROXY TCP6 fe80::1 fe80::2 5000 80\r\n"},
		{"192.0.2.1:5000", "[2001:db8::2]:80", "PROXY TCP4 192.0.2.1 0.0.0.0 5000 80\r\n"},
		{"[2001:db8::1]:5000", "", "PROXY TCP6 2001:db8::1 :: 5000 0\r\n"},
		{"", "", "PROXY UNKNOWN\r\n"},
		{"evil\r\nGET / HTTP/1.1", "198.51.100.7:80", "PROXY UNKNOWN\r\n"},
	}
	for _, test := range tests {
		if got := string(newProxyHeader(test.client, test.server).append(nil, ProxyV1)); got != test.want {
			t.Errorf("%q and %q became %q, want %q", test.client, test.server, got, test.want)
		}
	}
}

func TestInboundTakesTheClientFromItsProxyHeader(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	ln := listenTCP(t, "127.0.0.1:0")
	serve(t, ln, "hello")
	seen := make(chan string, 1)
	front := listenTCP(t, "127.0.0.1:0")
	go func() {
		c, err := front.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		line, _ := readLine(c)
		rest, _ := readLine(c)
		seen <- line + "|" + rest
	}()
	b.offer(t, "tcp/web", front.Addr().String(), `"proxyProtocol":"v1"`)
	address := a.listen(t, "tcp/web", `"acceptProxyProtocol":true`)

	silent := dial(t, address)
	io.WriteString(silent, "GET / HTTP/1.1\r\n\r\n")
	if _, err := io.ReadAll(silent); err == nil {
		t.Error("a client without a header was not reset")
	}
	appstest.Eventually(t, "that is counted", func() bool {
		return a.inboundStatus(t, "tcp/web").Stats.Errors[answer.BadRequest] == 1
	})
	c := dial(t, address)
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
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "tcp/web", server, `"proxyProtocol":"`+version+`"`, `"check":"http:/"`)
	c := dial(t, a.listen(t, "tcp/web"))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(c)
	want := strings.Replace(c.LocalAddr().String(), ":", " ", 1) + "\n"
	if err != nil || !strings.HasSuffix(string(answer), "\r\n\r\n"+want) {
		t.Errorf("got %q, %v; want %q", answer, err, want)
	}
	config := b.app.outbound(Key{TCP, "web"}).config.Load()
	if err := checkTarget(t.Context(), config, config.Targets[0]); err != nil {
		t.Errorf("the check, which speaks for itself: %v", err)
	}
}
