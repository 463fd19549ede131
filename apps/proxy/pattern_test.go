package proxy

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPatternsHaveOneSpelling(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"*", "*"},
		{"*:80", "*:80"},
		{"SVC.Example.COM.", "svc.example.com"},
		{"*.Example.com.", "*.example.com"},
		{"*.example.com:443", "*.example.com:443"},
		{"db:1-65535", "db"},
		{"db:5432-5432", "db:5432"},
		{"_http._tcp.example.com", "_http._tcp.example.com"},
		{"10.1.2.3", "10.1.2.3"},
		{"10.1.2.3/32", "10.1.2.3"},
		{"10.43.1.2/16:8000-8100", "10.43.0.0/16:8000-8100"},
		{"FD00::1", "fd00::1"},
		{"fd00::/8", "fd00::/8"},
		{"[fd00::/8]", "fd00::/8"},
		{"[fd00::1]:022", "[fd00::1]:22"},
		{"::ffff:10.0.0.1", "10.0.0.1"},
		{"[::ffff:10.0.0.1]:80", "10.0.0.1:80"},
		{"0.0.0.0/0", "0.0.0.0/0"},
		{"::/0", "::/0"},
	} {
		p, err := parsePattern(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
			continue
		}
		if p.String() != tt.want {
			t.Errorf("%q is written %q, want %q", tt.text, p, tt.want)
		}
	}
}

func TestPatternsThatMakeNoSense(t *testing.T) {
	for _, text := range []string{
		"", ".", "*.", "**", "*example.com", "a.*.b", "a..b", "a b", "bücher.example", "example.com:", "example.com:0",
		"example.com:65536", "example.com:9-8", "example.com:http", "example.com:+80", ":80", "[]:80", "[example.com]:80",
		"[10.0.0.1]:80", "[::1", "[::1]80", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "example.com/8", "::ffff:10.0.0.0/104",
		"::ffff:0:0/96", "fe80::1%eth0", "fe80::%eth0/10", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.1.",
		"*.1", "*.0x7f", "010.0.0.1", "1.2.3.4.5",
	} {
		if p, err := parsePattern(text); err == nil {
			t.Errorf("%q is taken for %q", text, p)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, dest string
		want          bool
	}{
		{"*", "example.com:80", true},
		{"*", "10.0.0.1:80", true},
		{"*:443", "example.com:80", false},
		{"*.example.com", "a.example.com:80", true},
		{"*.example.com", "a.b.example.com:80", true},
		{"*.example.com", "A.EXAMPLE.COM.:80", true},
		{"*.example.com", "example.com:80", false},
		{"*.example.com", "badexample.com:80", false},
		{"*.example.com", "example.com.evil.org:80", false},
		{"example.com", "example.com:80", true},
		{"example.com", "Example.Com.:80", true},
		{"example.com", "a.example.com:80", false},
		{"example.com:80-90", "example.com:90", true},
		{"example.com:80-90", "example.com:91", false},
		{"10.0.0.0/8", "10.9.9.9:1", true},
		{"10.0.0.0/8", "11.0.0.1:1", false},
		{"10.0.0.0/8", "[::ffff:10.9.9.9]:1", true},
		{"10.0.0.0/8", "ten.example.com:1", false},
		{"0.0.0.0/0", "[fd00::1]:1", false},
		{"fd00::/8", "[fd00::1]:1", true},
	} {
		p, err := parsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parseDest(tt.dest)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.match(d); got != tt.want {
			t.Errorf("%s matches %s: %v, want %v", tt.pattern, tt.dest, got, tt.want)
		}
	}
}

func TestTheMoreSpecificPatternIsHeavier(t *testing.T) {
	for _, tt := range [][]string{ // each heavier than the one before
		{"*", "*:80", "*.com", "*.com:80", "*.example.com", "*.a.example.com", "b.a.example.com", "b.a.example.com:1-100", "b.a.example.com:80"},
		{"*", "0.0.0.0/0", "10.0.0.0/8", "10.43.0.0/16", "10.43.0.0/16:80", "10.43.1.1", "10.43.1.1:80"},
		{"*", "::/0", "fd00::/8", "fd00::/64", "fd00::1"},
	} {
		for i := 1; i < len(tt); i++ {
			light, _ := parsePattern(tt[i-1])
			heavy, _ := parsePattern(tt[i])
			if light.weight() >= heavy.weight() {
				t.Errorf("%s weighs %d, %s weighs %d", light, light.weight(), heavy, heavy.weight())
			}
		}
	}
}

func TestMeet(t *testing.T) {
	for _, tt := range []struct{ a, b, want string }{
		{"*", "10.0.0.0/8", "10.0.0.0/8"},
		{"*:443", "*.example.com", "*.example.com:443"},
		{"*.example.com", "*.a.example.com:80", "*.a.example.com:80"},
		{"*.example.com:1-100", "a.example.com:50-200", "a.example.com:50-100"},
		{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/16"},
		{"10.0.0.0/8:22", "db.example.com", "db.example.com:22"},
		{"10.0.0.0/8", "11.0.0.0/8", ""},
		{"a.example.com", "b.example.com", ""},
		{"*:80", "*:81", ""},
	} {
		for _, pair := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			a, _ := parsePattern(pair[0])
			b, _ := parsePattern(pair[1])
			got := ""
			if m, ok := a.meet(b); ok {
				got = m.String()
			}
			if got != tt.want {
				t.Errorf("%s and %s meet in %q, want %q", a, b, got, tt.want)
			}
		}
	}
}

func TestDestinationsThatAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "example.com", "example.com:", "example.com:0", "example.com:65536", "example.com:-1", "example.com: 80",
		":80", ".:80", "a..b:80", "a b:80", "a\x00b:80", "a/b:80", "a@b:80", "[example.com]:80", "[127.0.0.1]:80", "::1:80x",
		"[fe80::1%eth0]:80", "fe80::1%25eth0:80", "127.0.0.1%lo:80", "2130706433:80", "0x7f000001:80", "0x7f.0.0.1:80", "127.1:80", "0177.0.0.1:80",
		"127.0.0.1.:80", "127.0.0.0x1:80", "bücher.example:80", "１２７.0.0.1:80", "a_very_long_label_that_has_more_than_sixty-three_characters_in_it_0.com:80",
	} {
		if d, err := parseDest(text); err == nil {
			t.Errorf("%q is taken for %s", text, d)
		}
	}
}

func TestDestinationsHaveOneSpelling(t *testing.T) {
	for _, tt := range []struct {
		text string
		want dest
	}{
		{"Example.COM:80", dest{name: "example.com", port: 80}},
		{"example.com.:80", dest{name: "example.com", full: true, port: 80}},
		{"10.0.0.1:080", dest{addr: netip.MustParseAddr("10.0.0.1"), port: 80}},
		{"[::FFFF:10.0.0.1]:80", dest{addr: netip.MustParseAddr("10.0.0.1"), port: 80}},
		{"[::ffff:a00:1]:80", dest{addr: netip.MustParseAddr("10.0.0.1"), port: 80}},
		{"[FD00:0::1]:80", dest{addr: netip.MustParseAddr("fd00::1"), port: 80}},
	} {
		got, err := parseDest(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(dest{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

// FuzzPattern: what is accepted is written in one way, which means the same.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"*", "*.example.com:1-2", "10.0.0.0/8", "[fd00::/8]:22", "::ffff:1.2.3.4", "a-b.c_d.:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePattern(s)
		if err != nil {
			return
		}
		again, err := parsePattern(p.String())
		if err != nil || again != p {
			t.Fatalf("%q is written %q, which is read as %+v, %v; want %+v", s, p, again, err, p)
		}
		if !p.covers(p) || p.weight() <= 0 {
			t.Fatalf("%q does not cover itself, or weighs %d", s, p.weight())
		}
	})
}

// FuzzDest: what is accepted is written in one way, which means the same.
func FuzzDest(f *testing.F) {
	for _, s := range []string{"example.com.:80", "[::ffff:1.2.3.4]:1", "1.2.3.4:65535", "0x7f.1:80", "[fe80::1%1]:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := parseDest(s)
		if err != nil {
			return
		}
		again, err := parseDest(d.String())
		if err != nil || again != d {
			t.Fatalf("%q is written %q, which is read as %+v, %v", s, d, again, err)
		}
	})
}
