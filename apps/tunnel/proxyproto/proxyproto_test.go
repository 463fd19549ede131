package proxyproto

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
)

var (
	header4 = Header{netip.MustParseAddrPort("192.0.2.1:5000"), netip.MustParseAddrPort("198.51.100.7:80")}
	header6 = Header{netip.MustParseAddrPort("[2001:db8::1]:5000"), netip.MustParseAddrPort("[2001:db8::2]:80")}
)

const v2 = "\r\n\r\n\x00\r\nQUIT\n"

func TestProxyHeaders(t *testing.T) {
	tests := []struct {
		name, wire string
		want       Header
		err        string
		made       bool // the same bytes are written
	}{
		{"v1 IPv4", "PROXY TCP4 192.0.2.1 198.51.100.7 5000 80\r\n", header4, "", true},
		{"v1 IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 5000 80\r\n", header6, "", true},
		{"v1 unknown", "PROXY UNKNOWN\r\n", Header{}, "", true},
		{"v1 unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", Header{}, "", false},
		{"v2 IPv4", v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\x13\x88\x00\x50", header4, "", true},
		{"v2 IPv4 with an extension", v2 + "\x21\x11\x00\x10\xc0\x00\x02\x01\xc6\x33\x64\x07\x13\x88\x00\x50\x04\x00\x01x", header4, "", false},
		{"v2 local", v2 + "\x20\x00\x00\x00", Header{}, "", true},
		{"v2 unix", v2 + "\x21\x31\x00\x02ab", Header{}, "", false},
		{"no header", "GET / HTTP/1.1\r\n", Header{}, "does not begin with one", false},
		{"nothing", "", Header{}, "EOF", false},
		{"v1 without end", "PROXY TCP4 " + strings.Repeat("1", 200), Header{}, "does not end", false},
		{"v1 cut off", "PROXY TCP4 192.0.2.1 198", Header{}, "EOF", false},
		{"v1 of the wrong family", "PROXY TCP6 192.0.2.1 198.51.100.7 5000 80\r\n", Header{}, "makes no sense", false},
		{"v1 bad port", "PROXY TCP4 192.0.2.1 198.51.100.7 5000 65536\r\n", Header{}, "makes no sense", false},
		{"v1 padded port", "PROXY TCP4 192.0.2.1 198.51.100.7 05000 80\r\n", Header{}, "makes no sense", false},
		{"v1 other protocol", "PROXY UDP4 192.0.2.1 198.51.100.7 5000 80\r\n", Header{}, "makes no sense", false},
		{"v2 other version", v2 + "\x11\x11\x00\x00", Header{}, "unknown version", false},
		{"v2 too short", v2 + "\x21\x11\x00\x04\x01\x02\x03\x04", Header{}, "too few", false},
		{"v2 too long", v2 + "\x21\x11\xff\xff", Header{}, "too many", false},
		{"v2 cut off", v2 + "\x21\x11\x00\x0c\x01", Header{}, "EOF", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			const after = "the client's first bytes"
			r := strings.NewReader(test.wire + after)
			if strings.Contains(test.err, "EOF") {
				r = strings.NewReader(test.wire)
			}
			h, err := read(r)
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
			version := V2
			if strings.HasPrefix(test.wire, "PROXY") {
				version = V1
			}
			if got := string(h.Append(nil, version)); test.made && got != test.wire {
				t.Errorf("written as %q, want %q", got, test.wire)
			}
		})
	}
}

// What is understood is written, in either version, so that it is understood in the same way; and
// nothing is read beyond the header.
func FuzzReadProxyHeader(f *testing.F) {
	for _, v := range []Version{V1, V2} {
		for _, h := range []Header{header4, header6, {}} {
			f.Add(h.Append(nil, v))
		}
	}
	f.Add([]byte(v2 + "\x21\x31\x00\x02ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		h, err := read(r)
		if err != nil {
			return
		}
		used := b[:len(b)-r.Len()]
		if again, err := read(bytes.NewReader(used)); err != nil || again != h {
			t.Errorf("the header alone gives %v, %v", again, err)
		}
		for _, v := range []Version{V1, V2} {
			wire := h.Append(nil, v)
			if again, err := read(bytes.NewReader(wire)); err != nil || again != h {
				t.Errorf("%v in %s became %v, %v", h, v, again, err)
			}
			if v == V1 && len(wire) > maxProxyV1 {
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
		if got := string(New(test.client, test.server).Append(nil, V1)); got != test.want {
			t.Errorf("%q and %q became %q, want %q", test.client, test.server, got, test.want)
		}
	}
}
