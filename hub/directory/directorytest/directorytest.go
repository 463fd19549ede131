// Package directorytest is the suite that every directory passes: that of a single hub, and one
// that several hubs share.
package directorytest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/hub/directory"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// timeout is how long the suite waits for what must happen.
const timeout = 90 * time.Second

// Mesh is a mesh whose directory is tested.
type Mesh struct {
	// Hub returns the directory as a hub has it, which runs until the test ends. Each call is
	// another hub, or the same if the mesh can have only one.
	Hub func() directory.Directory

	// Unlinked says that hubs share what there is, and do not tell each other who is online.
	Unlinked bool

	// Restart ends all hubs and starts them again. The directories from before fail then.
	Restart func()
}

// Open begins a mesh without endpoints. now is the time by which names are kept.
type Open func(t *testing.T, l directory.Limits, now func() time.Time) Mesh

// limits are those of tests that need none.
var limits = directory.Limits{Endpoints: 1000, OfUser: 1000, PageBytes: 1 << 20, NameKept: time.Hour, NamesOfUser: 100}

// Run tests a directory.
func Run(t *testing.T, open Open) {
	for _, tt := range []struct {
		name string
		test func(*suite)
	}{
		{"a record that was put is found", (*suite).found},
		{"a record does not go back in time", (*suite).older},
		{"a name belongs to one endpoint", (*suite).taken},
		{"a name that became free is kept for its user", (*suite).kept},
		{"endpoints are limited", (*suite).limited},
		{"an endpoint is online while it is attached", (*suite).online},
		{"a device that comes back takes over", (*suite).takenOver},
		{"an endpoint that is removed is cut off", (*suite).removed},
		{"what was put outlives a restart", (*suite).restarted},
		{"a listing comes in pages", (*suite).pages},
		{"all at once", (*suite).atOnce},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(&suite{T: t, open: open}) })
	}
}

// suite is one test.
type suite struct {
	*testing.T
	open Open
}

// start begins a mesh of two hubs, which may be one.
func (s *suite) start(l directory.Limits) (a, b directory.Directory, m Mesh) {
	m = s.open(s.T, l, time.Now)
	return m.Hub(), m.Hub(), m
}

// linked is start for what hubs know of each other by their links.
func (s *suite) linked() (a, b directory.Directory, m Mesh) {
	if a, b, m = s.start(limits); m.Unlinked {
		b = a
	}
	return a, b, m
}

// device is who puts a record.
func device(user, key string) identity.Subject {
	return identity.Subject{ID: identity.IDOf([]byte(key)), User: user, NotBefore: time.Unix(1000, 0), NotAfter: time.Unix(2000, 0)}
}

// put puts a record of a device under a name, at a time in milliseconds.
func put(d directory.Directory, by identity.Subject, name string, at unixtime.Millis, change ...func(*identity.Record)) error {
	r := identity.Record{ID: by.ID, Name: name, Time: at}
	for _, c := range change {
		c(&r)
	}
	return d.Put(fmt.Appendf(nil, "%s %s %d", by.ID, name, at), r, by)
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) want(err error, code answer.Code) {
	s.Helper()
	if answer.CodeOf(err) != code {
		s.Errorf("got %v, want %s", err, code)
	}
}

// eventually waits for what one hub has to learn of another.
func (s *suite) eventually(what string, ok func() bool) {
	s.Helper()
	late := time.After(timeout)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-late:
			s.Fatalf("not within %v: %s", timeout, what)
		case <-tick.C:
		}
	}
}

func (s *suite) found() {
	a, b, _ := s.start(limits)
	bob, alice := device("bob", "b"), device("alice", "a")
	s.must(put(a, bob, "web", 1))
	s.must(put(b, alice, "box", 1))
	for _, d := range []directory.Directory{a, b} {
		s.eventually("both endpoints are listed by name", func() bool {
			page := d.List(directory.Filter{})
			return len(page.Entries) == 2 && !page.More && string(page.Entries[0].Record) == fmt.Sprintf("%s box 1", alice.ID)
		})
		e, err := d.Entry(bob.ID)
		if err != nil || string(e.Record) != fmt.Sprintf("%s web 1", bob.ID) || e.Online || d.Name(bob.ID) != "web" {
			s.Errorf("%+v, %v", e, err)
		}
		if all, online := d.Size(); all != 2 || online != 0 {
			s.Errorf("%d endpoints, %d online", all, online)
		}
		_, err = d.Entry(device("", "nobody").ID)
		s.want(err, answer.NotFound)
		if name := d.Name(device("", "nobody").ID); name != "" {
			s.Errorf("an endpoint that is not there has the name %q", name)
		}
	}
}

func (s *suite) older() {
	a, _, _ := s.start(limits)
	bob := device("bob", "b")
	s.must(put(a, bob, "web", 5))
	s.want(put(a, bob, "web", 4), answer.Conflict)
	s.must(put(a, bob, "web", 5))
	s.must(put(a, bob, "web", 6))
	if e, _ := a.Entry(bob.ID); string(e.Record) != fmt.Sprintf("%s web 6", bob.ID) {
		s.Errorf("%s", e.Record)
	}
}

func (s *suite) taken() {
	a, b, _ := s.start(limits)
	bob, alice := device("bob", "b"), device("alice", "a")
	s.must(put(a, bob, "web", 1))
	s.want(put(b, alice, "web", 1), answer.Conflict)
	if b.Check("web", alice.ID).Taken == nil || b.Check("web", bob.ID).Taken != nil || b.Check("www", alice.ID).Taken != nil {
		s.Error("it is not said to whom the name belongs")
	}
	s.must(put(a, alice, "www", 1))
	s.want(put(a, bob, "www", 2), answer.Conflict)
	if a.Name(bob.ID) != "web" {
		s.Error("a refused name has taken the old one away")
	}
}

func (s *suite) kept() {
	var later atomic.Int64 // added to the time
	m := s.open(s.T, limits, func() time.Time { return time.Now().Add(time.Duration(later.Load())) })
	d := m.Hub()
	bob, alice := device("bob", "b"), device("alice", "a")
	put1 := func(by identity.Subject, name string) error { return put(d, by, name, 1) }
	remove := func(keep bool, id identity.ID) {
		s.Helper()
		if n, err := d.Remove(keep, func(sub identity.Subject) bool { return sub.ID == id }); n != 1 || err != nil {
			s.Fatalf("%d removed, %v", n, err)
		}
	}
	s.must(put1(bob, "web"))
	s.must(put(d, bob, "www", 2)) // renamed
	remove(true, bob.ID)
	for _, name := range []string{"web", "www"} {
		s.want(put1(alice, name), answer.Conflict)
		if got := d.Check(name, alice.ID).KeptFor; got != "bob" {
			s.Errorf("%s is kept for %q", name, got)
		}
	}
	s.must(put1(device("bob", "another of bob"), "web"))
	m.Restart()
	d = m.Hub()
	s.want(put1(alice, "www"), answer.Conflict)
	later.Store(int64(limits.NameKept + time.Minute))
	s.must(put1(alice, "www"))
	remove(false, alice.ID)
	s.must(put1(device("carol", "c"), "www"))
}

func (s *suite) limited() {
	l := limits
	l.Endpoints, l.OfUser = 3, 2
	a, _, _ := s.start(l)
	s.must(put(a, device("bob", "1"), "n1", 1))
	s.must(put(a, device("bob", "2"), "n2", 1))
	s.want(put(a, device("bob", "3"), "n3", 1), answer.Limit)
	s.must(put(a, device("alice", "4"), "n4", 1))
	s.want(put(a, device("carol", "5"), "n5", 1), answer.Limit)
	s.must(put(a, device("bob", "2"), "n6", 2)) // it is there already
	if _, err := a.Remove(false, func(sub identity.Subject) bool { return sub.User == "bob" }); err != nil {
		s.Fatal(err)
	}
	s.must(put(a, device("carol", "5"), "n5", 1))
}

func (s *suite) online() {
	a, b, _ := s.linked()
	root := device("root", "r")
	_, err := a.Attach(root.ID, "10.0.0.1:1", func() {})
	s.want(err, answer.Conflict)
	s.must(put(a, root, "web", 1, func(r *identity.Record) { r.Signer = true }))
	detach, err := a.Attach(root.ID, "10.0.0.1:1", func() { s.Error("it was ended") })
	s.must(err)
	for _, d := range []directory.Directory{a, b} {
		s.eventually("it is online", func() bool {
			e, _ := d.Entry(root.ID)
			_, online := d.Size()
			return e.Online && e.Address == "10.0.0.1:1" && online == 1 && len(d.List(directory.Filter{Online: true}).Entries) == 1 &&
				slices.Equal(d.Signers("root"), []identity.ID{root.ID}) && len(d.Signers("bob")) == 0
		})
	}
	detach()
	detach()
	for _, d := range []directory.Directory{a, b} {
		s.eventually("it is offline", func() bool {
			e, _ := d.Entry(root.ID)
			_, online := d.Size()
			return !e.Online && e.Seen > 0 && online == 0 && len(d.Signers("root")) == 0 && len(d.List(directory.Filter{Online: true}).Entries) == 0
		})
	}
}

func (s *suite) takenOver() {
	a, b, _ := s.linked()
	bob := device("bob", "b")
	s.must(put(a, bob, "web", 1))
	ended := make(chan struct{})
	old, err := a.Attach(bob.ID, "10.0.0.1:1", func() { close(ended) })
	s.must(err)
	detach, err := b.Attach(bob.ID, "10.0.0.2:2", func() { s.Error("the newer one was ended") })
	s.must(err)
	select {
	case <-ended:
	case <-time.After(timeout):
		s.Fatal("the older one was not ended")
	}
	old()
	if e, err := b.Entry(bob.ID); err != nil || !e.Online || e.Address != "10.0.0.2:2" {
		s.Errorf("the end of the older one is that of the newer one: %+v, %v", e, err)
	}
	detach()
}

func (s *suite) removed() {
	a, b, _ := s.start(limits)
	bob, alice := device("bob", "b"), device("alice", "a")
	s.must(put(a, bob, "web", 1))
	s.must(put(a, alice, "box", 1))
	ended := make(chan struct{})
	detach, err := a.Attach(bob.ID, "10.0.0.1:1", func() { close(ended) })
	s.must(err)
	s.eventually("both hubs have both", func() bool { all, _ := b.Size(); return all == 2 })
	n, err := b.Remove(true, func(sub identity.Subject) bool { return sub.User == "bob" })
	if n != 1 || err != nil {
		s.Errorf("%d removed, %v", n, err)
	}
	select {
	case <-ended:
	case <-time.After(timeout):
		s.Fatal("it is still attached")
	}
	detach()
	_, err = b.Entry(bob.ID)
	s.want(err, answer.NotFound)
	if all, online := b.Size(); all != 1 || online != 0 {
		s.Errorf("%d endpoints, %d online", all, online)
	}
	if n, err := a.Remove(true, func(identity.Subject) bool { return false }); n != 0 || err != nil {
		s.Errorf("%d removed, %v", n, err)
	}
}

func (s *suite) restarted() {
	a, _, m := s.start(limits)
	bob := device("bob", "b")
	s.must(put(a, bob, "web", 1))
	s.must(put(a, device("alice", "a"), "box", 1))
	s.must(put(a, bob, "www", 2))
	_, err := a.Attach(bob.ID, "10.0.0.1:1", func() {})
	s.must(err)
	if _, err := a.Remove(true, func(sub identity.Subject) bool { return sub.User == "alice" }); err != nil {
		s.Fatal(err)
	}
	m.Restart()
	s.want(put(a, bob, "late", 3), answer.Internal)
	d := m.Hub()
	page := d.List(directory.Filter{})
	if len(page.Entries) != 1 || string(page.Entries[0].Record) != fmt.Sprintf("%s www 2", bob.ID) || page.Entries[0].Online {
		s.Errorf("%+v", page)
	}
}

func (s *suite) pages() {
	const n = 2*tunnel.PageSize + 10
	l := limits
	a, _, _ := s.start(l)
	for i := range n {
		s.must(put(a, device(fmt.Sprint("user-", i%2), fmt.Sprint(i)), fmt.Sprintf("ep-%04d", i), 1, func(r *identity.Record) {
			r.Offers, r.Labels = []string{fmt.Sprint("offer-", i%3)}, []string{fmt.Sprintf("label-%d", i%5)}
		}))
	}
	for _, tt := range []struct {
		name string
		f    directory.Filter
		want int
		more bool
	}{
		{"first", directory.Filter{}, tunnel.PageSize, true},
		{"last", directory.Filter{Offset: 2 * tunnel.PageSize}, 10, false},
		{"beyond", directory.Filter{Offset: 10_000}, 0, false},
		{"short", directory.Filter{Limit: 7}, 7, true},
		{"greedy", directory.Filter{Limit: 10_000}, tunnel.PageSize, true},
		{"of a user", directory.Filter{User: "user-1", Offset: tunnel.PageSize}, n/2 - tunnel.PageSize, false},
		{"by offer", directory.Filter{Offer: "offer-0"}, n/3 + 1, false},
		{"by label", directory.Filter{Keyword: "label-4"}, n / 5, false},
		{"by a part of the name", directory.Filter{Keyword: "-0007"}, 1, false},
		{"by name", directory.Filter{Name: "ep-0007"}, 1, false},
		{"by no name", directory.Filter{Name: "ep-"}, 0, false},
		{"online", directory.Filter{Online: true}, 0, false},
	} {
		if page := a.List(tt.f); len(page.Entries) != tt.want || page.More != tt.more {
			s.Errorf("%s: %d entries, more %v; want %d, %v", tt.name, len(page.Entries), page.More, tt.want, tt.more)
		}
	}
	l.PageBytes = 200
	b, _, _ := s.start(l)
	big := func(i int) error {
		by := device("bob", fmt.Sprint(i))
		return b.Put(make([]byte, 90), identity.Record{ID: by.ID, Name: fmt.Sprint("ep-", i), Time: 1}, by)
	}
	for i := range 5 {
		s.must(big(i))
	}
	if page := b.List(directory.Filter{}); len(page.Entries) != 2 || !page.More {
		s.Errorf("%d entries in a page of 200 bytes, more %v", len(page.Entries), page.More)
	}
}

func (s *suite) atOnce() {
	a, b, _ := s.start(limits)
	var wg sync.WaitGroup
	for i := range 20 {
		by := device(fmt.Sprint("user-", i%3), fmt.Sprint(i))
		wg.Go(func() {
			for at := range unixtime.Millis(10) {
				d := a
				if at%2 == 1 {
					d = b
				}
				if err := put(d, by, fmt.Sprint("ep-", i, "-", at), at+1); err != nil {
					s.Error(err)
				}
				if detach, err := d.Attach(by.ID, "10.0.0.1:1", func() {}); err == nil {
					d.List(directory.Filter{Keyword: "ep"})
					d.Check("ep-0-0", by.ID)
					detach()
				}
			}
		})
	}
	wg.Wait()
	s.eventually("all are there, and offline", func() bool {
		all, online := a.Size()
		return all == 20 && online == 0
	})
}
