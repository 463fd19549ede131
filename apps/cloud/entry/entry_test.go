package entry

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

var ids = []identity.ID{identity.IDOf([]byte("a")), identity.IDOf([]byte("b")), identity.IDOf([]byte("c"))}

// any vector of three endpoints.
func anyVector() (v Vector) {
	for range rand.IntN(6) {
		v = v.Next(ids[rand.IntN(len(ids))])
	}
	return v
}

func TestVersionsAreComparedByWhatTheyKnow(t *testing.T) {
	count := func(v Vector, id identity.ID) uint64 {
		for _, c := range v {
			if c.By == id {
				return c.N
			}
		}
		return 0
	}
	opposite := map[Order]Order{Equal: Equal, Before: After, After: Before, Concurrent: Concurrent}
	for range 5000 {
		a, b := anyVector(), anyVector()
		less, more := false, false
		for _, id := range ids {
			less, more = less || count(a, id) < count(b, id), more || count(a, id) > count(b, id)
		}
		want := map[[2]bool]Order{{false, false}: Equal, {true, false}: Before, {false, true}: After, {true, true}: Concurrent}[[2]bool{less, more}]
		got := Compare(a, b)
		if got != want || Compare(b, a) != opposite[got] {
			t.Fatalf("%v and %v: %v, and %v the other way round, want %v", a, b, got, Compare(b, a), want)
		}
		m := Merge(a, b)
		if o := Compare(m, a); o != Equal && o != After {
			t.Fatalf("%v does not know what %v knows", m, a)
		}
		if Compare(m, Merge(b, a)) != Equal || Compare(Merge(a, a), a) != Equal {
			t.Fatalf("merging %v and %v depends on the order", a, b)
		}
		if by := ids[rand.IntN(3)]; Compare(m.Next(by), a) != After || Compare(m.Next(by), b) != After {
			t.Fatalf("the next version of %v is no later one", m)
		}
		if len(m) > 0 && m.check() != nil && !strings.Contains(m.check().Error(), "ID") {
			t.Fatalf("%v: %v", m, m.check())
		}
	}
}

// file returns an entry as a host would publish it.
func file(h *appstest.Host, path, content string) *Entry {
	self := h.Self()
	e := &Entry{User: self.User, Path: path, By: self.ID, Vector: Vector{}.Next(self.ID), Time: 1}
	c, _, _ := blocks.Sum(strings.NewReader(content), int64(len(content)))
	e.SetContent(c)
	return e
}

func TestOfTwoVersionsAllEndpointsPreferTheSame(t *testing.T) {
	var n appstest.Net
	h := n.Join("a", "alice")
	for range 2000 {
		a, b := file(h, "x", "one"), file(h, "x", "two")
		a.Vector, b.Vector = anyVector(), anyVector()
		a.Deleted, b.Deleted = rand.IntN(4) == 0, rand.IntN(4) == 0
		ab, ba := Newer(a, b), Newer(b, a)
		if o := Compare(a.Vector, b.Vector); ab && ba || !ab && !ba && o != Equal || o == After && !ab || o == Before && !ba {
			t.Fatalf("%+v and %+v: newer %v and %v", a, b, ab, ba)
		}
		if Compare(a.Vector, b.Vector) == Concurrent && a.Deleted && !b.Deleted && ab {
			t.Fatal("a deletion wins over a version that it does not know")
		}
	}
}

func TestAnEntryIsRefusedUnlessAnEndpointOfItsUserSignedAllOfIt(t *testing.T) {
	var n appstest.Net
	alice, bob := n.Join("a", "alice"), n.Join("b", "bob")
	sign := func(h *appstest.Host, e *Entry) Signed {
		doc, cert, err := h.Notary("cloud").Sign(kind, e)
		if err != nil {
			t.Fatal(err)
		}
		return Signed{doc, cert}
	}
	good := file(alice, "a/b.txt", "hello")
	good.Readers.Users = []string{"bob", "carol"}
	if e, err := Open(bob.Notary("cloud"), sign(alice, good)); err != nil || e.Name() != "/users/alice/a/b.txt" || !e.May(Reader{User: "bob"}) || e.May(Reader{User: "dave"}) {
		t.Fatalf("%+v, %v", e, err)
	}
	changed := sign(alice, good)
	changed.Doc = bytes.Replace(changed.Doc, []byte("b.txt"), []byte("c.txt"), 1)
	other := sign(alice, good)
	other.Certificate = sign(bob, good).Certificate
	elsewhere, cert, _ := alice.Notary("script").Sign(kind, good)
	for name, s := range map[string]Signed{
		"with a changed byte":            changed,
		"in another user's tree":         sign(bob, good),
		"with another's certificate":     other,
		"signed by another app":          {elsewhere, cert},
		"without a certificate":          {changed.Doc, nil},
		"that is none":                   {[]byte(`{"payload":{},"signature":""}`), cert},
		"larger than a statement can be": {make([]byte, identity.MaxStatement+1), cert},
	} {
		if e, err := Open(bob.Notary("cloud"), s); err == nil {
			t.Errorf("an entry %s was taken: %+v", name, e)
		}
	}
	evicted := sign(alice, good)
	n.Evict("alice")
	if _, err := Open(bob.Notary("cloud"), evicted); err == nil {
		t.Error("an entry of an evicted user was taken")
	}
}

func TestAnEntryWhoseNumbersLieIsNeitherSignedNorTaken(t *testing.T) {
	var n appstest.Net
	h := n.Join("a", "alice")
	for name, lie := range map[string]func(*Entry){
		"a negative size":                func(e *Entry) { e.Size = -1 },
		"a size beyond the limit":        func(e *Entry) { e.Size, e.Block = blocks.MaxSize+1, blocks.MaxBlock },
		"blocks of no size":              func(e *Entry) { e.Block = 0 },
		"blocks of 3 bytes":              func(e *Entry) { e.Block = 3 },
		"blocks that do not fit":         func(e *Entry) { e.Block *= 2 },
		"a size that does not fit":       func(e *Entry) { e.Size = 1 << 35 },
		"a short hash":                   func(e *Entry) { e.Hash = e.Hash[:31] },
		"no bytes with a hash of some":   func(e *Entry) { e.Size = 0 },
		"a directory that is a program":  func(e *Entry) { e.SetContent(blocks.Directory); e.Exec = true },
		"a directory of a size":          func(e *Entry) { e.SetContent(blocks.Directory); e.Size = 1 },
		"a deletion with content":        func(e *Entry) { e.Deleted = true },
		"no version":                     func(e *Entry) { e.Vector = nil },
		"a version of somebody else":     func(e *Entry) { e.Vector = Vector{}.Next(ids[0]) },
		"a version twice":                func(e *Entry) { e.Vector = append(e.Vector, e.Vector...) },
		"a version that is none":         func(e *Entry) { e.Vector = Vector{{e.By, 0}} },
		"readers out of order":           func(e *Entry) { e.Readers.Users = []string{"b", "a"} },
		"too many readers":               func(e *Entry) { e.Readers.Users = make([]string, maxReaders+1) },
		"groups out of order":            func(e *Entry) { e.Readers.Groups = []string{"b", "a"} },
		"too many groups":                func(e *Entry) { e.Readers.Groups = make([]string, maxGroups+1) },
		"a group that can be none":       func(e *Entry) { e.Readers.Groups = []string{"group:a"} },
		"a reader who can be nobody":     func(e *Entry) { e.Readers.Users = []string{"a b"} },
		"a time before 1970":             func(e *Entry) { e.Time = -1 },
		"a time that no calendar has":    func(e *Entry) { e.Time = unixtime.MaxMillis + 1 },
		"no path":                        func(e *Entry) { e.Path = "" },
		"a user who can be nobody":       func(e *Entry) { e.User = "../x" },
		"an endpoint that can be nobody": func(e *Entry) { e.By = "x" },
	} {
		e := file(h, "x", "hello")
		lie(e)
		if _, err := Sign(h.Notary("cloud"), e); err == nil {
			t.Errorf("%s: it was signed", name)
		}
		doc, cert, err := h.Notary("cloud").Sign(kind, e)
		if err != nil {
			continue
		}
		if _, err := Open(h.Notary("cloud"), Signed{doc, cert}); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

func TestADirectoryIsAnEntryWithoutContentOfItsOwn(t *testing.T) {
	var n appstest.Net
	h := n.Join("a", "alice")
	e := file(h, "x", "")
	e.SetContent(blocks.Directory)
	s, err := Sign(h.Notary("cloud"), e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Open(h.Notary("cloud"), s)
	if err != nil || !got.IsDir() || got.Content().Check() == nil { // who does not know of directories refuses it
		t.Errorf("it is %+v, %v", got, err)
	}
}

// hostilePaths lead elsewhere, or would on some system.
var hostilePaths = []string{"../x", "/x", "a/../../x", "a//x", "a/./x", `..\x`, "C:x", "a\x00b", "a\nb", ".ztm/x", "a/.ZTM-1", "%2e%2e/x", "%252e%252e%252fx",
	"..%2fx", "a/%2e%2e/%2e%2e/x", "", ".", "..", "a/", strings.Repeat("x", 256), strings.Repeat("x/", 2048) + "x"}

func TestAPathThatLeadsElsewhereIsNeitherSignedNorTaken(t *testing.T) {
	var n appstest.Net
	h := n.Join("a", "alice")
	for _, path := range hostilePaths {
		e := file(h, path, "hello")
		if _, err := Sign(h.Notary("cloud"), e); err == nil {
			t.Errorf("%q was signed", path)
		}
		doc, cert, _ := h.Notary("cloud").Sign(kind, e)
		if _, err := Open(h.Notary("cloud"), Signed{doc, cert}); err == nil {
			t.Errorf("%q was taken", path)
		}
	}
}

func FuzzEntry(f *testing.F) {
	var n appstest.Net
	h := n.Join("a", "alice")
	for _, path := range append(slices.Clone(hostilePaths), "a/b") {
		b, _ := json.Marshal(file(h, path, "hello"))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Entry
		if json.Unmarshal(b, &e) != nil || e.check() != nil {
			return
		}
		if strings.Contains("/"+e.Path+"/", "/../") || strings.ContainsAny(e.Path, "\\\x00\x1b") || strings.HasPrefix(e.Path, "/") {
			t.Errorf("the path %q was taken", e.Path)
		}
		if !e.Deleted && (blocks.Count(e.Size) > 1<<16 || e.Size < 0) {
			t.Errorf("%d bytes were taken", e.Size)
		}
		if !e.Readers.All && e.May(Reader{}) {
			t.Error("nobody may read it")
		}
	})
}

func TestSharingWithMoreTakesNothingFromThoseWhoHaveIt(t *testing.T) {
	for _, tt := range []struct {
		before Readers
		more   []string
		want   string
	}{
		{Readers{}, nil, ""},
		{Readers{}, []string{"bob", "group:staff"}, "bob,group:staff"},
		{Readers{Users: []string{"bob"}}, []string{"alice", "bob"}, "alice,bob"},
		{Readers{Users: []string{"bob"}}, []string{"*", "alice"}, "all"},
		{Readers{All: true}, []string{"alice"}, "all"},
	} {
		if got := tt.before.SharedWith(tt.more); got.Text() != tt.want {
			t.Errorf("%+v and %v: %q, want %q", tt.before, tt.more, got.Text(), tt.want)
		}
	}
}
