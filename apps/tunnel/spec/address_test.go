package spec

import (
	"strings"
	"testing"

	"ztm/apps/listen"
)

func TestParseAddress(t *testing.T) {
	tests := []struct{ in, want, err string }{
		{"127.0.0.1:8080", "127.0.0.1:8080", ""},
		{"8080", "127.0.0.1:8080", ""},
		{"*:8080", "*:8080", ""},
		{"[::1]:80", "[::1]:80", ""},
		{"[fe80::1%eth0]:80", "[fe80::1%eth0]:80", ""},
		{"db.local:5432", "db.local:5432", ""},
		{"unix:/" + strings.Repeat("a", listen.MaxPath-1), "unix:/" + strings.Repeat("a", listen.MaxPath-1), ""},
		{"unix:/" + strings.Repeat("a", listen.MaxPath), "", "a socket's has at most"},
		{"unix:/caf\xe9.sock", "", "not UTF-8"},
		{"unix:/caf\ufffd.sock", "", "not UTF-8"},
		{"unix:/café.sock", "unix:/café.sock", ""},
		{"bücher.example:80", "", "write the host in the letters of DNS"},
		{"пример.рф:80", "", "write the host in the letters of DNS"},
		{"xn--bcher-kva.example:80", "xn--bcher-kva.example:80", ""},
		{"7000-7010", "127.0.0.1:7000-7010", ""},
		{"host:7000-7000", "host:7000", ""},
		{"unix:/run/db.sock", "unix:/run/db.sock", ""},
		{"unix:/a:b", "unix:/a:b", ""},
		{"127.0.0.1:0", "127.0.0.1:0", ""},
		{"", "", "is not a port"},
		{":8080", "", `write *:8080 for all addresses, 8080 for 127.0.0.1`},
		{"host", "", "is not a port"},
		{"host:", "", "is not a port"},
		{"host:http", "", "is not a port"},
		{"host:65536", "", "want a number to 65535"},
		{"host:-1", "", "is not a port"},
		{"host:+1", "", "is not a port"},
		{"host:10-9", "", "backwards: write 9-10"},
		{"host:0-9", "", "begins with 1 or more"},
		{"host:1-1025", "", "at most 1024 ports"},
		{"host:1-2-3", "", "is not a port"},
		{"::1:80", "", "with an IPv6 address in brackets"},
		{"[::1:80", "", "with an IPv6 address in brackets"},
		{"[host]:80", "", "is not a host"},
		{"[1:2]:80", "", "is not an IPv6 address"},
		{"a b:80", "", "is not a host"},
		{"user@host:80", "", "is not a host"},
		{"unix:", "", "wants the path"},
		{"unix:/a\x00b", "", "wants the path"},
		{strings.Repeat("a", 254) + ":80", "", "is not a host"},
	}
	for _, test := range tests {
		t.Run(test.in, func(t *testing.T) {
			a, err := ParseAddress(test.in)
			switch {
			case test.err != "":
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %q, %v; want an error with %q", a, err, test.err)
				}
			case err != nil || a.String() != test.want:
				t.Errorf("got %q, %v; want %q", a, err, test.want)
			}
		})
	}
}

func TestAddressesOverlap(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.1:80", "127.0.0.2:80", false},
		{"127.0.0.1:80", "*:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"[::]:80", "127.0.0.1:80", true},
		{"[::]:80", "0.0.0.0:80", true},
		{"[::1]:80", "*:80", true},
		{"[::1]:80", "0.0.0.0:80", false},
		{"localhost:80", "0.0.0.0:80", true},
		{"7000-7010", "7010-7020", true},
		{"7000-7010", "7011-7020", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"unix:/a", "unix:/a", true},
		{"unix:/a", "unix:/b", false},
		{"unix:/a", "80", false},
	}
	for _, test := range tests {
		a, _ := ParseAddress(test.a)
		b, _ := ParseAddress(test.b)
		if a.Overlaps(b) != test.want || b.Overlaps(a) != test.want {
			t.Errorf("%s and %s overlap: %v, want %v", a, b, !test.want, test.want)
		}
	}
}

// What is parsed is written in one way, which is parsed the same.
func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"8080", "[::1]:80", "host:7000-7010", "unix:/run/a", "*:0", "[fe80::1%x]:1", ":1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		b, err := ParseAddress(a.String())
		if err != nil || a != b {
			t.Errorf("%q became %q, which became %q, %v", s, a, b, err)
		}
		if n := a.Size(); n < 1 || n > maxRange || a.At(n-1).Size() != 1 {
			t.Errorf("%q has %d ports", s, n)
		}
	})
}

func TestNamesOfTunnelsAreSafeInPaths(t *testing.T) {
	for _, s := range []string{"tcp/.", "tcp/..", "tcp/...", "tcp/", "tcp/a/b", "tcp/a%2fb", "tcp/a b", "tcp/$(x)", "tcp/a\n", "/web", "web", ""} {
		if k, err := ParseKey(s); err == nil {
			t.Errorf("%q is %v", s, k)
		}
	}
	for _, s := range []string{"tcp/web", "udp/a.b-c_d", "tcp/ä", "tcp/-", "tcp/..a"} {
		if _, err := ParseKey(s); err != nil {
			t.Error(err)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"tcp/web", "udp/dns-1", "tcp/", "tcp/a/b", "web", "tcp/../x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k, err := ParseKey(s); err == nil && k.String() != s {
			t.Errorf("%q became %q", s, k)
		}
	})
}
