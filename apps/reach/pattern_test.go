package reach

import (
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
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
		{"10.0.0.0/8:22,8000-8999", "10.0.0.0/8:22,8000-8999"},
		{"10.0.0.0/8:443,80,81,80-90,443", "10.0.0.0/8:80-90,443"},
		{"[fd00::/8]:*", "fd00::/8"},
		{"*.local:*", "*.local"},
		{"db:65535,1-65534", "db"},
	} {
		p, err := ParsePattern(tt.text)
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
		"*.1", "*.0x7f", "010.0.0.1", "1.2.3.4.5", "db:22,", "db:,22", "db:22,*", "db:22;23", "db: 22", "db:22,9-8", "*:0-5",
	} {
		if p, err := ParsePattern(text); err == nil {
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
		{"10.0.0.0/8:22,8000-8100", "10.1.1.1:22", true},
		{"10.0.0.0/8:22,8000-8100", "10.1.1.1:8050", true},
		{"10.0.0.0/8:22,8000-8100", "10.1.1.1:80", false},
	} {
		p, err := ParsePattern(tt.pattern)
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDest(tt.dest)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(d); got != tt.want {
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
			light, _ := ParsePattern(tt[i-1])
			heavy, _ := ParsePattern(tt[i])
			if light.Weight() >= heavy.Weight() {
				t.Errorf("%s weighs %d, %s weighs %d", light, light.Weight(), heavy, heavy.Weight())
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
		{"*:80,443,8000-9000", "*.example.com:443-8100", "*.example.com:443,8000-8100"},
	} {
		for _, pair := range [][2]string{{tt.a, tt.b}, {tt.b, tt.a}} {
			a, _ := ParsePattern(pair[0])
			b, _ := ParsePattern(pair[1])
			got := ""
			if m, ok := a.Meet(b); ok {
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
		if d, err := ParseDest(text); err == nil {
			t.Errorf("%q is taken for %s", text, d)
		}
	}
}

func TestDestinationsHaveOneSpelling(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Dest
	}{
		{"Example.COM:80", Dest{Name: "example.com", Port: 80}},
		{"example.com.:80", Dest{Name: "example.com", Full: true, Port: 80}},
		{"10.0.0.1:080", Dest{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}},
		{"[::FFFF:10.0.0.1]:80", Dest{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}},
		{"[::ffff:a00:1]:80", Dest{Addr: netip.MustParseAddr("10.0.0.1"), Port: 80}},
		{"[FD00:0::1]:80", Dest{Addr: netip.MustParseAddr("fd00::1"), Port: 80}},
	} {
		got, err := ParseDest(tt.text)
		if err != nil {
			t.Errorf("%q: %v", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(Dest{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.text, diff)
		}
	}
}

// FuzzPattern: what is accepted is written in one way, which means the same.
func FuzzPattern(f *testing.F) {
	for _, s := range []string{"*", "*.example.com:1-2", "10.0.0.0/8", "[fd00::/8]:22,8000-8999", "::ffff:1.2.3.4", "a-b.c_d.:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePattern(s)
		if err != nil {
			return
		}
		again, err := ParsePattern(p.String())
		if err != nil || again.String() != p.String() {
			t.Fatalf("%q is written %q, which is read as %+v, %v; want %+v", s, p, again, err, p)
		}
		if both, ok := p.Meet(p); !ok || both.String() != p.String() {
			t.Fatalf("%q meets itself in %q", s, both)
		}
		if !p.Covers(p) || p.Weight() <= 0 {
			t.Fatalf("%q does not cover itself, or weighs %d", s, p.Weight())
		}
	})
}

// FuzzDest: what is accepted is written in one way, which means the same.
func FuzzDest(f *testing.F) {
	for _, s := range []string{"example.com.:80", "[::ffff:1.2.3.4]:1", "1.2.3.4:65535", "0x7f.1:80", "[fe80::1%1]:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDest(s)
		if err != nil {
			return
		}
		again, err := ParseDest(d.String())
		if err != nil || again != d {
			t.Fatalf("%q is written %q, which is read as %+v, %v", s, d, again, err)
		}
	})
}

// FuzzPorts: a list of ports has the ports that it lists, and no others.
func FuzzPorts(f *testing.F) {
	for _, s := range []string{"*", "22,8000-8999", "1-65535", "3,1-2,2-4"} {
		f.Add(s, uint16(22))
	}
	f.Fuzz(func(t *testing.T, s string, port uint16) {
		ps, err := ParsePorts(s)
		if err != nil || port == 0 {
			return
		}
		listed := s == "*"
		for _, part := range strings.Split(s, ",") {
			first, last, isRange := strings.Cut(part, "-")
			lo, _ := strconv.Atoi(first)
			hi, _ := strconv.Atoi(last)
			listed = listed || int(port) == lo || isRange && lo <= int(port) && int(port) <= hi
		}
		if ps.Has(port) != listed {
			t.Fatalf("%q is read as %s: has port %d: %v", s, ps, port, ps.Has(port))
		}
	})
}

func TestPatternsCoverByHostAndPorts(t *testing.T) {
	for _, tt := range []struct {
		pattern, other string
		want           bool
	}{
		{"*", "10.0.0.0/8:22", true},
		{"*:22", "10.0.0.0/8", false},
		{"10.0.0.0/8:22,80-90", "10.1.0.0/16:81-82,22", true},
		{"10.0.0.0/8:22,80-90", "10.1.0.0/16:81-91", false},
		{"10.1.0.0/16", "10.0.0.0/8", false},
		{"*.example.com", "a.example.com:1", true},
		{"*.example.com", "example.com", false},
	} {
		p, q := mustPattern(t, tt.pattern), mustPattern(t, tt.other)
		if got := p.Covers(q); got != tt.want {
			t.Errorf("%s covers %s: %v, want %v", p, q, got, tt.want)
		}
	}
}

func TestPatternsAreStringsInJSON(t *testing.T) {
	in := []Pattern{mustPattern(t, "192.168.1.0/24:22"), {}}
	b, err := json.Marshal(in)
	if err != nil || string(b) != `["192.168.1.0/24:22",""]` {
		t.Fatalf("%s, %v", b, err)
	}
	var out []Pattern
	if err := json.Unmarshal(b, &out); err != nil || out[0].String() != in[0].String() || out[1].String() != "" {
		t.Errorf("read back as %v, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`["a b"]`), &out); err == nil {
		t.Error("nonsense is taken for a pattern")
	}
}

func mustPattern(t *testing.T, text string) Pattern {
	t.Helper()
	p, err := ParsePattern(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
