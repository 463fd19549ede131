package admission

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// silent returns a connection of a source that has kept the hub waiting.
func silent(from string, d time.Duration) *Socket {
	s := &Socket{TCPConn: &net.TCPConn{}, From: netip.MustParseAddr(from), begun: time.Now()}
	s.waited.Store(int64(d))
	return s
}

func TestTheSilentOneOfManyGivesWay(t *testing.T) {
	const ms = time.Millisecond
	now := time.Now()
	type one struct {
		from   string
		silent time.Duration
	}
	cases := []struct {
		name  string
		there []one // of 8 places in all, 6 are for everybody, and 3 for one source
		from  string
		want  entry
		gone  int // which of there gives way; -1: none
	}{
		{"there is room", []one{{"10.0.0.1", 0}}, "10.0.0.2", entered, -1},
		{"of the source with most", []one{
			{"10.0.0.1", 900 * ms}, {"10.0.0.2", 60 * ms}, {"10.0.0.2", 70 * ms}, {"10.0.0.2", 55 * ms}, {"10.0.0.3", 800 * ms}, {"10.0.0.4", 0},
		}, "10.0.0.5", entered, 2},
		{"of single ones that which was silent longest", []one{
			{"10.0.0.1", 300 * ms}, {"10.0.0.2", 400 * ms}, {"10.0.0.3", 0}, {"10.0.0.4", 0}, {"10.0.0.5", 0}, {"10.0.0.6", 0},
		}, "10.0.0.7", entered, 1},
		{"nobody is late", []one{
			{"10.0.0.1", 200 * ms}, {"10.0.0.2", 0}, {"10.0.0.2", 40 * ms}, {"10.0.0.3", 0}, {"10.0.0.4", 0}, {"10.0.0.5", 0},
		}, "10.0.0.7", full, -1},
		{"a source with too many gives its own place", []one{
			{"10.0.0.1", 300 * ms}, {"10.0.0.2", 60 * ms}, {"10.0.0.2", 0}, {"10.0.0.2", 0},
		}, "10.0.0.2", entered, 1},
		{"a source with too many that are quick is refused", []one{
			{"10.0.0.1", 300 * ms}, {"10.0.0.2", 0}, {"10.0.0.2", 0}, {"10.0.0.2", 0},
		}, "10.0.0.2", refused, -1},
		{"a member has a place when all others are taken", []one{
			{"10.0.0.1", 0}, {"10.0.0.2", 0}, {"10.0.0.3", 0}, {"10.0.0.4", 0}, {"10.0.0.5", 0}, {"10.0.0.6", 0},
		}, "10.9.9.9", entered, -1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var cut atomic.Int64
			h := NewHandshakes(8, 3, 100, &cut)
			h.Member(netip.MustParseAddr("10.9.9.9"), now)
			var there []*Socket
			for _, o := range c.there {
				s := silent(o.from, 0)
				if h.try(s, now) != entered {
					t.Fatal("no place at the beginning")
				}
				there = append(there, s)
			}
			for i, o := range c.there {
				there[i].waited.Store(int64(o.silent))
			}
			if got := h.try(silent(c.from, 0), now); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			for i, s := range there {
				_, still := h.unknown.open[s]
				if gone := i == c.gone; still == gone {
					t.Errorf("connection %d: gave way: %v", i, !still)
				}
			}
		})
	}
}

// A search that made room for one connection alone would be repeated for each that comes.
func TestASearchMakesRoomForSeveral(t *testing.T) {
	now := time.Now()
	var cut atomic.Int64
	h := NewHandshakes(1024, 256, 100, &cut)
	slow := silent("10.9.9.9", 0)
	h.try(slow, now)
	for range h.unknown.most - 1 {
		s := silent([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}[len(h.unknown.open)%3], 0)
		if h.try(s, now) != entered {
			t.Fatal("no place at the beginning")
		}
		s.waited.Store(int64(yieldMany))
	}
	slow.waited.Store(int64(time.Minute))
	if h.try(silent("10.0.0.4", 0), now) != entered {
		t.Fatal("no place when one may give way")
	}
	if want := int64(h.unknown.most / yieldShare); cut.Load() != want {
		t.Errorf("%d gave way in one search, want %d", cut.Load(), want)
	}
	if _, still := h.unknown.open[slow]; !still {
		t.Error("the only connection of a source gave way before those of sources with many")
	}
}

func TestAHubThatIsCrowdedIsLessPatient(t *testing.T) {
	now := time.Now()
	var cut atomic.Int64
	h := NewHandshakes(8, 8, 100, &cut)
	slow := silent("10.0.0.1", 0)
	h.try(slow, now)
	slow.waited.Store(int64(yieldCrowded))
	for range 3 {
		h.try(silent("10.0.0.2", 0), now)
	}
	if _, still := h.unknown.open[slow]; !still {
		t.Error("a slow connection was cut where there is room")
	}
	for range 2 {
		now = now.Add(endEvery)
		h.try(silent("10.0.0.2", 0), now)
	}
	if _, still := h.unknown.open[slow]; still || cut.Load() != 1 {
		t.Error("a slow connection stays where more than half is taken")
	}
}

func TestSourcesOfMembersAreForgottenOneByOne(t *testing.T) {
	now := time.Now()
	const most = 50
	h := NewHandshakes(8, 8, most, new(atomic.Int64))
	addr := netip.MustParseAddr("10.0.0.0")
	for range most + 10 {
		addr = addr.Next()
		h.Member(addr, now)
	}
	if len(h.members) != most {
		t.Errorf("%d sources are remembered, want %d", len(h.members), most)
	}
	h.Member(addr, now.Add(memberSourceLife))
	h.Sweep(now.Add(memberSourceLife))
	if len(h.members) != 1 {
		t.Errorf("%d sources are remembered after a day, want 1", len(h.members))
	}
}

func TestPlacesAreGivenBack(t *testing.T) {
	now := time.Now()
	h := NewHandshakes(8, 2, 100, new(atomic.Int64))
	for range 100 {
		s := silent("10.0.0.1", 0)
		if h.try(s, now) != entered {
			t.Fatal("no place")
		}
		h.Leave(s)
		h.Leave(s) // where it gave way before
	}
	if len(h.unknown.open)+len(h.familiar.open)+len(h.bySource) != 0 {
		t.Error("something is left")
	}
}

func TestWhatCountsAsOneAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":                       "192.0.2.1",
		"::ffff:192.0.2.1":                "192.0.2.1",
		"2001:db8:1:2:3:4:5:6":            "2001:db8:1:2::",
		"2001:db8:1:2:ffff:ffff:ffff:fff": "2001:db8:1:2::",
		"fe80::1%eth0":                    "fe80::",
	} {
		if got := Source(netip.MustParseAddr(in)); got.String() != want {
			t.Errorf("%s counts as %s, want %s", in, got, want)
		}
	}
}
