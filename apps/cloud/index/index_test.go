package index

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/entry"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// made is an index at an endpoint.
type made struct {
	*Index
	t    testing.TB
	host *appstest.Host
	self entry.Author
	from apps.Host
}

func newIndex(t testing.TB, n *appstest.Net, name, user string) *made {
	t.Helper()
	m := &made{t: t, host: n.Join(name, user)}
	m.host.New("cloud", func(h apps.Host) apps.App { m.from = h; return nil })
	m.self = entry.Author{ID: m.host.Self().ID, User: user}
	m.load()
	return m
}

func (m *made) load() {
	m.t.Helper()
	x, err := Load(m.from.State, m.from.Notary)
	if err != nil {
		m.t.Fatal(err)
	}
	m.Index = x
}

func version(path, text string, readers ...string) Published {
	c, _, _ := blocks.Sum(strings.NewReader(text), int64(len(text)))
	e := entry.Entry{Path: path, Time: 1, Readers: entry.Readers{Users: readers}}
	e.SetContent(c)
	return Published{Entry: e, Held: All}
}

func (m *made) publish(list ...Published) {
	m.t.Helper()
	if err := m.Publish(m.self, list); err != nil {
		m.t.Fatal(err)
	}
}

// all reads what a user is told, from the beginning.
func (m *made) all(user string) (list []entry.Signed, told []Told) {
	m.t.Helper()
	for epoch, since := "", uint64(0); ; {
		p, err := m.Since(entry.Reader{User: user}, epoch, since)
		if err != nil {
			m.t.Fatal(err)
		}
		b, _ := json.Marshal(p)
		if p, err = ParsePage(b); err != nil {
			m.t.Fatal(err)
		}
		list, told = append(list, p.Signed()...), append(told, p.Entries...)
		if epoch, since = p.Epoch, p.Next; !p.More {
			return list, told
		}
	}
}

// learn takes all that another index tells.
func (m *made) learn(from *made) {
	m.t.Helper()
	list, _ := from.all(m.self.User)
	if _, refused, err := m.Put(list); err != nil || refused != nil {
		m.t.Fatal(refused, err)
	}
}

func (m *made) names() (names []string) {
	m.Each(func(r *Row) bool { return !r.Deleted }, func(r Row) bool {
		names = append(names, r.Name())
		return true
	})
	return names
}

func TestAPeerIsToldOfWhatHasChangedAndOfWhatItMayRead(t *testing.T) {
	var n appstest.Net
	a, b := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "bob")
	a.publish(version("x", "1", "bob"), version("y", "2"), version("z", "3", "bob", "carol"))
	b.learn(a)
	if got := b.names(); !slices.Equal(got, []string{"/users/alice/x", "/users/alice/z"}) {
		t.Errorf("bob knows %v", got)
	}
	p, _ := a.Since(entry.Reader{User: "bob"}, "", 0)
	a.publish(version("z", "4", "bob"))
	if p, _ = a.Since(entry.Reader{User: "bob"}, p.Epoch, p.Next); len(p.Entries) != 1 {
		t.Errorf("then %d files have changed", len(p.Entries))
	}
	if p, _ = a.Since(entry.Reader{User: "bob"}, p.Epoch, p.Next); len(p.Entries) != 0 {
		t.Errorf("then still %d", len(p.Entries))
	}
	if p, _ = a.Since(entry.Reader{User: "bob"}, "another", p.Next); len(p.Entries) != 2 {
		t.Errorf("of another epoch %d are told", len(p.Entries))
	}
}

func TestAnIndexChangeOfOneFileIsSmall(t *testing.T) {
	var n appstest.Net
	a := newIndex(t, &n, "a", "alice")
	a.publish(version(strings.Repeat("directory/", 5)+"a-file-of-some-name.jpeg", "1", "bob"))
	p, _ := a.Since(entry.Reader{User: "bob"}, "", 0)
	p.Certificates = nil // one for all changes of an endpoint
	if b, _ := json.Marshal(p); len(b) > 1024 {
		t.Errorf("%d bytes: %s", len(b), b)
	}
}

func TestAnOldVersionDoesNotReplaceANewOneAndApartTheyMeetAlike(t *testing.T) {
	var n appstest.Net
	a, b, c := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "alice"), newIndex(t, &n, "c", "alice")
	a.publish(version("x", "old"))
	old, _ := a.all("alice")
	b.learn(a)
	b.publish(version("x", "new"))
	a.learn(b)
	if news, _, _ := a.Put(old); len(news) > 0 {
		t.Error("an entry that was delivered again took effect")
	}
	a.publish(version("x", "of a"))
	b.publish(version("x", "of b"))
	ofA, _ := a.all("alice")
	ofB, _ := b.all("alice")
	a.Put(ofB)
	b.Put(ofA)
	c.Put(ofB)
	c.Put(ofA)
	ka, _ := a.Get("alice", "x")
	kb, _ := b.Get("alice", "x")
	kc, _ := c.Get("alice", "x")
	if ka.Content() != kb.Content() || ka.Content() != kc.Content() {
		t.Fatal("they do not prefer the same version")
	}
	c.publish(version("x", "after both"))
	after, _ := c.all("alice")
	for _, m := range []*made{a, b} {
		if news, _, _ := m.Put(after); len(news) != 1 {
			t.Error("a version that knows both does not take their place")
		}
	}
}

func TestADeletionThatKnewNothingOfAnEditLosesAgainstIt(t *testing.T) {
	var n appstest.Net
	a, b := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "alice")
	a.publish(version("x", "1"))
	b.learn(a)
	for range 5 {
		a.publish(version("x", "again"))
	}
	a.publish(Published{Entry: entry.Entry{Path: "x", Deleted: true}})
	b.publish(version("x", "edit"))
	a.learn(b)
	b.learn(a)
	for _, m := range []*made{a, b} {
		if k, _ := m.Get("alice", "x"); k.Deleted {
			t.Error("the edit is gone")
		}
	}
}

func TestWhoLosesAccessIsToldThatTheFileIsGoneAndNothingElse(t *testing.T) {
	var n appstest.Net
	a, b, c := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "bob"), newIndex(t, &n, "c", "carol")
	a.publish(version("x", "1", "bob", "carol"))
	b.learn(a)
	c.learn(a)
	next := version("x", "a new secret", "carol")
	next.Lost = entry.Readers{Users: []string{"bob"}}
	a.publish(next)
	list, told := a.all("bob")
	if e, err := entry.Read(list[0].Doc); err != nil || !e.Deleted || e.Size != 0 || len(e.Hash) > 0 || e.May(entry.Reader{User: "carol"}) || told[0].Held != None {
		t.Errorf("bob is told %+v, %v", e, err)
	}
	b.learn(a)
	if got := b.names(); len(got) > 0 {
		t.Errorf("bob still knows %v", got)
	}
	// Bob cannot use what he was told to hide the file from others.
	c.Put(list)
	c.learn(a)
	c.Put(list)
	if k, _ := c.Get("alice", "x"); k.Deleted {
		t.Error("the file is hidden from carol")
	}
	if again, _ := a.all("dave"); len(again) > 0 {
		t.Error("somebody is told of it who never could read it")
	}
}

func TestAnIndexIsTheSameAfterItWasLoaded(t *testing.T) {
	var n appstest.Net
	a := newIndex(t, &n, "a", "alice")
	for i := range 700 {
		a.publish(version(fmt.Sprint("d/", i), fmt.Sprint(i%10), "bob"))
	}
	before, _ := a.all("bob")
	e1, s1 := a.Position()
	a.load()
	after, _ := a.all("bob")
	if e2, s2 := a.Position(); e1 != e2 || s1 != s2 || len(before) != 700 {
		t.Errorf("%s %d became %s %d, with %d entries", e1, s1, e2, s2, len(before))
	}
	if !slices.EqualFunc(before, after, func(x, y entry.Signed) bool { return string(x.Doc) == string(y.Doc) }) {
		t.Error("it tells of other files")
	}
	sum := a.Index.content
	for h := range sum {
		if rows := a.ByContent(h, entry.Reader{User: "bob"}); len(rows) != 70 {
			t.Errorf("%d files have a content of seventy", len(rows))
		}
		if rows := a.ByContent(h, entry.Reader{User: "eve"}); len(rows) != 0 {
			t.Error("a user who knows a hash alone is given a file")
		}
	}
}

func TestAFileThatIsHeldByAPeerCountsWhileItHasThatContent(t *testing.T) {
	var n appstest.Net
	a, b := newIndex(t, &n, "a", "alice"), newIndex(t, &n, "b", "bob")
	a.publish(version("x", "1", "bob"))
	b.learn(a)
	k, _ := b.Get("alice", "x")
	var h Holders
	b.Told(&h, a.self.ID, &k.Entry, All)
	if got := b.Holders(&h, "alice", "x"); len(got) != 1 {
		t.Fatalf("%d hold it", len(got))
	}
	a.publish(version("x", "2", "bob"))
	b.learn(a)
	if got := b.Holders(&h, "alice", "x"); len(got) != 0 {
		t.Errorf("%d hold the new version", len(got))
	}
	b.Told(&h, a.self.ID, &k.Entry, All) // of the old one
	if got := b.Holders(&h, "alice", "x"); len(got) != 0 {
		t.Errorf("%d hold the new version, who told of the old one", len(got))
	}
}

func TestTenThousandFilesTakeFourMegabytesAtMost(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	m := newIndex(t, &n, "a", "alice")
	m.from.State = discard{}
	m.load()
	heap := func() uint64 {
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	before := heap()
	for i := range 40 {
		var list []Published
		for j := range 250 {
			list = append(list, version(fmt.Sprintf("usr/share/doc/package-%d/a-file-of-it-%d.txt", i, j), fmt.Sprint(i, j), "bob"))
		}
		m.publish(list...)
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("10,000 files take %d bytes", grown)
	}
	if got := len(m.names()); got != 10_000 {
		t.Errorf("%d files are known", got)
	}
}

// discard is a database that keeps nothing.
type discard struct{ apps.State }

func (discard) Load(string, any) (bool, error) { return false, nil }
func (discard) Save(string, any) error         { return nil }
func (discard) SaveAll(map[string]any) error   { return nil }
func (discard) Keys(string) ([]string, error)  { return nil, nil }

func FuzzPage(f *testing.F) {
	var n appstest.Net
	a := newIndex(f, &n, "a", "alice")
	a.publish(version("x", "1", "bob"))
	p, _ := a.Since(entry.Reader{User: "bob"}, "", 0)
	b, _ := json.Marshal(p)
	f.Add(b)
	f.Add([]byte(`{"entries":[{"cert":-1}]}`))
	f.Add([]byte(`{"certificates":["AA=="],"entries":[{"doc":null,"held":9}]}`))
	reader := newIndex(f, &n, "b", "bob")
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePage(b)
		if err != nil {
			return
		}
		reader.Put(p.Signed())
		for _, name := range reader.names() {
			if name != "/users/alice/x" {
				t.Errorf("%q was taken", name)
			}
		}
	})
}

func TestOneUsersFilesAreSharedWithSomeGroupsAndNoMore(t *testing.T) {
	var n appstest.Net
	m := newIndex(t, &n, "a", "alice")
	var list []Published
	for i := range MaxGroups + 1 {
		p := version(fmt.Sprint(i), "x")
		p.Entry.Readers.Groups = []string{fmt.Sprintf("group%d", i)}
		list = append(list, p)
	}
	if err := m.Publish(m.self, list); answer.CodeOf(err) != answer.Limit {
		t.Errorf("all at once: %v", err)
	}
	if err := m.Publish(m.self, list[1:]); err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(m.self, list[:1]); answer.CodeOf(err) != answer.Limit {
		t.Errorf("one more: %v", err)
	}
	list[1].Entry.Readers.Groups = nil
	if err := m.Publish(m.self, list[1:2]); err != nil {
		t.Fatal(err)
	}
	if err := m.Publish(m.self, list[:1]); err != nil {
		t.Errorf("in place of another one: %v", err)
	}
}

func TestAccessCanBeTakenAwayFromAnyNumberOneAfterTheOther(t *testing.T) {
	var n appstest.Net
	m := newIndex(t, &n, "a", "alice")
	m.publish(version("x", "1"))
	inGroup := func(i int) entry.Reader {
		return entry.Reader{User: "bob", In: func(group string) bool { return group == fmt.Sprint("group", i) }}
	}
	for i := range 2*MaxGroups + 1 {
		shared, alone := version("x", "1"), version("x", "1")
		shared.Entry.Readers.Groups = []string{fmt.Sprint("group", i)}
		alone.Lost = shared.Entry.Readers
		m.publish(shared)
		m.publish(alone)
		if rows := m.ByContent(blocks.Hash(shared.Entry.Hash), inGroup(i)); len(rows) > 0 {
			t.Fatalf("group %d reads on", i)
		}
		if p, err := m.Since(inGroup(i), "", 0); err != nil || len(p.Entries) != 1 {
			t.Fatalf("group %d does not hear that the file is gone: %v", i, err)
		}
	}
	for _, first := range []string{"a", "b"} { // 400 users, half of them at once
		many := version("x", "1")
		for i := range 200 {
			many.Entry.Readers.Users = append(many.Entry.Readers.Users, fmt.Sprintf("%s%03d", first, i))
		}
		m.publish(many)
		alone := version("x", "1")
		alone.Lost = many.Entry.Readers
		m.publish(alone)
	}
	if list, _ := m.all("b000"); len(list) != 1 {
		t.Error("a user of the last ones does not hear that the file is gone")
	}
}

func TestWhoCanReadAgainAndLosesItAgainIsToldAsTheLast(t *testing.T) {
	var n appstest.Net
	m := newIndex(t, &n, "a", "alice")
	m.publish(version("x", "1", "bob"))
	alone := version("x", "1")
	alone.Lost = entry.Readers{Users: []string{"bob"}}
	m.publish(alone)
	m.publish(version("x", "1", "bob"))
	list, _ := m.all("bob")
	if e, err := entry.Read(list[0].Doc); err != nil || e.Deleted {
		t.Fatalf("bob, who can read it again, is told %+v, %v", e, err)
	}
	if r, _, _ := m.Index.load("alice", "x"); !r.Lost.IsNobody() {
		t.Errorf("%v count as those who lost it", r.Lost)
	}
	m.load()
	m.publish(alone)
	list, _ = m.all("bob")
	if e, err := entry.Read(list[0].Doc); err != nil || !e.Deleted {
		t.Errorf("bob is told %+v, %v", e, err)
	}
}
