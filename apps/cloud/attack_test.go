package cloud

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/learn"
	"ztm/apps/cloud/state"
	"ztm/apps/cloud/wire"
)

// member is a hostile member: it says what it likes.
type member struct {
	apps.Host
	page  func(q url.Values) []byte                  // what it tells of its index
	block func(r wire.Request) (wire.Answer, []byte) // what it gives
}

func (m *member) Name() string                  { return Name }
func (m *member) Run(ctx context.Context) error { m.Offer([]string{"1"}); <-ctx.Done(); return nil }
func (m *member) Left(func(apps.Peer) bool)     {}
func (m *member) API() http.Handler             { return http.NotFoundHandler() }

func (m *member) Serve(_ context.Context, f apps.Flow) {
	c, err := f.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	switch f.Path() {
	case "index":
		c.Write(m.page(f.Query()))
	case "blocks":
		for {
			r, err := wire.ReadRequest(c)
			if err != nil {
				return
			}
			a, b := m.block(r)
			c.Write(append(a.Append(nil), b...))
		}
	}
}

// join adds a hostile member.
func join(t *testing.T, n *appstest.Net, user string) *member {
	m := &member{}
	h := n.Join("hostile", user)
	h.Start(t, Name, func(host apps.Host) apps.App { m.Host = host; return m })
	appstest.Eventually(t, "it is seen", func() bool { return learn.Offered(Name, h.Self()) != "" })
	return m
}

// told makes a page of entries, signed whatever is in them.
func (m *member) told(entries ...*entry.Entry) []byte {
	p := index.Page{Epoch: "x", Next: 1}
	for _, e := range entries {
		doc, cert, err := m.Notary.Sign("entry", e)
		if err != nil {
			panic(err)
		}
		p.Entries = append(p.Entries, index.Told{Doc: doc, Held: index.All})
		p.Certificates = [][]byte{cert}
	}
	b, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return append(b, '\n')
}

func (m *member) entry(path string, text string) *entry.Entry {
	self := m.Mesh.Self()
	e := &entry.Entry{User: self.User, Path: path, By: self.ID, Vector: entry.Vector{}.Next(self.ID), Readers: entry.Readers{All: true}}
	c, _, _ := blocks.Sum(strings.NewReader(text), int64(len(text)))
	e.SetContent(c)
	return e
}

func TestAPathThatLeadsElsewhereIsRefusedAndNothingIsMade(t *testing.T) {
	var n appstest.Net
	bob, m := newPlace(t, &n, "b", "bob"), join(t, &n, "eve")
	var list []*entry.Entry
	for _, path := range []string{"../x", "/x", "a/../../x", "a//x", "a/./x", `..\x`, "C:x", "a\x00b", "%2e%2e%2fx", "%252e%252e/x", ".ztm-lock", "a/.ztm/x"} {
		list = append(list, m.entry(path, "evil"))
	}
	good := m.entry("good", "evil")
	m.page = func(url.Values) []byte { return m.told(append(slices.Clone(list), good)...) }
	m.block = func(wire.Request) (wire.Answer, []byte) {
		return wire.Answer{Status: wire.OK, Length: 4}, []byte("evil")
	}
	if d, err := bob.download("/"); err != nil || d.Files != 1 || d.Done != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	filepath.WalkDir(filepath.Dir(bob.dir), func(path string, d os.DirEntry, err error) error {
		if d.Type().IsRegular() && d.Name() != ".ztm-lock" && path != bob.file("eve", "good") {
			t.Errorf("%s was made", path)
		}
		return err
	})
}

func TestAnIndexThatLiesTakesNeitherMemoryNorTime(t *testing.T) {
	var n appstest.Net
	bob, m := newPlace(t, &n, "b", "bob"), join(t, &n, "eve")
	good := func() *entry.Entry { return m.entry("x", "text") }
	asked := 0
	lie := func(f func(*entry.Entry)) func(url.Values) []byte {
		return func(url.Values) []byte { e := good(); f(e); return m.told(e) }
	}
	for name, page := range map[string]func(url.Values) []byte{
		"2^31 blocks":          lie(func(e *entry.Entry) { e.Size, e.Block = blocks.MinBlock<<31, blocks.MinBlock }),
		"blocks of no size":    lie(func(e *entry.Entry) { e.Block = 0 }),
		"blocks of 3":          lie(func(e *entry.Entry) { e.Block = 3 }),
		"a negative size":      lie(func(e *entry.Entry) { e.Size = -5 }),
		"deleted with blocks":  lie(func(e *entry.Entry) { e.Deleted = true }),
		"another user's tree":  lie(func(e *entry.Entry) { e.User = "alice" }),
		"another's tree of us": lie(func(e *entry.Entry) { e.User = "bob" }),
		"a line without end":   func(url.Values) []byte { return bytes.Repeat([]byte(" "), 8<<20) },
		"no JSON":              func(url.Values) []byte { return []byte("<html>\n") },
		"pages without end": func(q url.Values) []byte {
			asked++
			b, _ := json.Marshal(index.Page{Epoch: "x", Next: uint64(asked), More: true})
			return append(b, '\n')
		},
		"pages that go back": func(url.Values) []byte {
			b, _ := json.Marshal(index.Page{Epoch: "x", Next: 1, More: true})
			return append(b, '\n')
		},
		"too many entries": func(url.Values) []byte {
			return []byte(`{"epoch":"x","certificates":[""],"entries":[` + strings.Repeat(`{"doc":1},`, 1000) + `{"doc":1}]}` + "\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			m.page = page
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if got := bob.files("/"); len(got) > 0 {
				t.Errorf("it was taken: %v", got)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
				t.Errorf("%d bytes are held", grown)
			}
		})
	}
}

func TestAHashAloneGivesNothing(t *testing.T) {
	var n appstest.Net
	alice, eve := newPlace(t, &n, "a", "alice"), n.Join("e", "eve")
	alice.publish("priv/x", random(300_000))
	alice.publish("pub/y", random(200_000), "eve")
	k, err := alice.app.index.Get("alice", "priv/x")
	if err != nil {
		t.Fatal(err)
	}
	c, err := eve.Open(t.Context(), alice.host.Self().ID, "cloud/blocks", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	nothing := blocks.Hash{1}
	for _, h := range []blocks.Hash{k.Content().Hash, nothing} { // what is there is answered as what is not
		for _, op := range []wire.Op{wire.Have, wire.List, wire.Block} {
			c.Write(wire.Request{Op: op, Content: h}.Append(nil))
			if a, err := wire.ReadAnswer(c, 1<<20); err != nil || a.Status != wire.NotFound {
				t.Errorf("%c: %+v, %v", op, a, err)
			}
		}
	}
	k, _ = alice.app.index.Get("alice", "pub/y")
	for _, number := range []uint32{2, 1 << 31, 1<<32 - 1} {
		c.Write(wire.Request{Op: wire.Block, Content: k.Content().Hash, N: number}.Append(nil))
		if a, err := wire.ReadAnswer(c, 1<<20); err != nil || a.Status != wire.NotFound {
			t.Errorf("block %d: %+v, %v", number, a, err)
		}
	}
	c.Write([]byte("no request at all, and longer than one of them is"))
	if _, err := io.ReadAll(c); err != nil {
		t.Logf("the flow ended with %v", err)
	}
}

func TestWhatIsNoFileIsNeitherPublishedNorServedNorWrittenThrough(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need rights there")
	}
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	outside := filepath.Join(t.TempDir(), "outside")
	os.Mkdir(outside, 0o700)
	os.WriteFile(filepath.Join(outside, "x"), []byte("secret"), 0o600)
	alice.publish("private/x", []byte("inside"))
	os.MkdirAll(alice.file("alice", "public"), 0o700)
	os.Symlink(filepath.Join(outside, "x"), alice.file("alice", "public/out"))
	os.Symlink("../private/x", alice.file("alice", "public/in"))
	os.Symlink("x", alice.file("alice", "private/beside"))
	os.Symlink("nowhere", alice.file("alice", "public/dangling"))
	os.Symlink(outside, alice.file("alice", "public/dir"))
	for _, path := range []string{"public/out", "public/in", "private/beside", "public/dangling", "public/dir/x", "public/dir/"} {
		var results []Result
		err := alice.call("POST", "publish", Named{Path: path, Share: []string{"bob"}}, &results)
		if err == nil && slices.ContainsFunc(results, func(r Result) bool { return r.Error == "" }) {
			t.Errorf("%s was published", path)
		}
	}
	if got := bob.files("/users/alice"); len(got) != 0 {
		t.Errorf("bob sees %v", got)
	}

	alice.publish("shared/deep/x", []byte("new content"), "bob")
	os.MkdirAll(bob.file("alice", "shared"), 0o700)
	os.Symlink(outside, bob.file("alice", "shared/deep"))
	if d, err := bob.download("/users/alice/shared"); err != nil || d.Done > 0 {
		t.Errorf("a file went through a link: %+v, %v", d, err)
	}
	os.Remove(bob.file("alice", "shared/deep"))
	os.Mkdir(bob.file("alice", "shared/deep"), 0o700)
	os.Symlink(filepath.Join(outside, "x"), bob.file("alice", "shared/deep/x"))
	if d, err := bob.download("/users/alice/shared"); err != nil || d.Done > 0 {
		t.Errorf("a link was replaced or written through: %+v, %v", d, err)
	}
	if b, _ := os.ReadFile(filepath.Join(outside, "x")); string(b) != "secret" {
		t.Errorf("outside is %q", b)
	}
}

func TestAFileIsExecutableOnlyIfPublishedSoAndAllowedHere(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no such mode")
	}
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	yes := true
	for i, tt := range []struct {
		mode  os.FileMode
		allow bool
		want  os.FileMode
	}{{0o755 | os.ModeSetuid, false, 0o600}, {0o755 | os.ModeSetuid, true, 0o700}, {0o666, true, 0o600}} {
		path := fmt.Sprint("x", i)
		alice.write(path, random(10+i))
		os.Chmod(alice.file("alice", path), tt.mode)
		alice.must("POST", "publish", Named{Path: path, Share: []string{"bob"}}, nil)
		if tt.allow {
			bob.must("PATCH", "config", config.Change{Exec: &yes}, nil)
		}
		bob.wants("/users/alice/"+path, random(10+i))
		if st, err := os.Stat(bob.file("alice", path)); err != nil || st.Mode() != tt.want {
			t.Errorf("%v, allowed %v: %v, %v", tt.mode, tt.allow, st.Mode(), err)
		}
	}
}

func TestATransferEndsWhenAccessIsTakenAway(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), n.Join("b", "bob")
	alice.publish("x", random(3<<20))
	k, _ := alice.app.index.Get("alice", "x")
	n.SetGroup("ops", "bob")
	for name, tt := range map[string]struct {
		by  string
		end func()
	}{
		"share": {"bob", func() { alice.must("POST", "share", ShareChange{Path: "x", Remove: []string{"bob"}}, nil) }},
		"evict": {"bob", func() { n.Evict("bob") }},
		"group": {"group:ops", func() { n.SetGroup("ops") }},
		"share of a group": {"group:ops", func() {
			alice.must("POST", "share", ShareChange{Path: "x", Remove: []string{"group:ops"}}, nil)
		}},
	} {
		n.SetGroup("ops", "bob")
		alice.must("POST", "share", ShareChange{Path: "x", Add: []string{tt.by}}, nil)
		c, err := bob.Open(t.Context(), alice.host.Self().ID, "cloud/blocks", nil)
		if err != nil {
			t.Fatal(err)
		}
		ask := wire.Request{Op: wire.Block, Content: k.Content().Hash}.Append(nil)
		c.Write(ask)
		if a, err := wire.ReadAnswer(c, 1<<24); err != nil || a.Status != wire.OK {
			t.Fatal(a, err)
		}
		tt.end()
		if _, err := io.Copy(io.Discard, c); err == nil {
			t.Errorf("%s: it ended as if it was complete", name)
		}
		c.Close()
		if !strings.HasPrefix(name, "share") {
			alice.must("POST", "share", ShareChange{Path: "x", Remove: []string{tt.by}}, nil)
		}
	}
}

func TestANameOfOursThatIsALinkIsNotWrittenThrough(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "x"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	content := random(300_000)
	alice.publish("x", []byte("one"), "bob")
	bob.wants("/users/alice/x", []byte("one"))
	alice.publish("x", content)
	k, err := alice.app.index.Get("alice", "x")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("x\x00" + hex.EncodeToString(k.Hash))) // see rooted.Dir.Create
	temp := ".ztm-" + hex.EncodeToString(sum[:12]) + ".part"
	os.RemoveAll(filepath.Join(bob.dir, ".ztm-trash"))
	for link, to := range map[string]string{bob.file("alice", temp): filepath.Join(outside, "x"), filepath.Join(bob.dir, ".ztm-trash"): outside} {
		if err := os.Symlink(to, link); err != nil {
			t.Skip(err)
		}
	}
	bob.download("/users/alice/x") // it may fail: the old version has no place in the trash
	os.Remove(filepath.Join(bob.dir, ".ztm-trash"))
	bob.wants("/users/alice/x", content)
	if b, err := os.ReadFile(filepath.Join(outside, "x")); string(b) != "secret" {
		t.Errorf("outside is %q, %v", b, err)
	}
	if l, err := os.ReadDir(outside); err != nil || len(l) != 1 {
		t.Errorf("outside has %v, %v", l, err)
	}
}

func TestAPeerCannotMakeThisEndpointDelete(t *testing.T) {
	var n appstest.Net
	bob := newMirror(t, &n, "b", bothWays)
	bob.write("docs/x", []byte("one"))
	appstest.Eventually(t, "it is published", func() bool { return bob.files("docs")["/users/alice/docs/x"].State == state.Synced })
	m := join(t, &n, "eve")
	k, err := bob.app.index.Get("alice", "docs/x")
	if err != nil {
		t.Fatal(err)
	}
	gone := &entry.Entry{User: "alice", Path: "docs/x", By: m.Mesh.Self().ID, Vector: k.Vector.Next(m.Mesh.Self().ID), Deleted: true}
	m.page = func(url.Values) []byte { return m.told(gone) }
	m.block = func(wire.Request) (wire.Answer, []byte) { return wire.Answer{Status: wire.NotFound}, nil }
	bob.files("/") // asks, and is told of it
	for _, path := range []string{"erase", "unpublish", "mirrors", "downloads", "files/users/alice/docs/x", "put", "share", "trash", "restore", "config"} {
		if c, err := m.Mesh.Open(t.Context(), bob.host.Self().ID, Name+"/"+path, url.Values{"path": {"docs/x"}}); err == nil {
			c.Close()
			t.Errorf("cloud/%s was opened", path)
		}
	}
	if f := bob.files("docs")["/users/alice/docs/x"]; f.State != state.Synced || bob.text("docs/x") != "one" {
		t.Errorf("it is %+v, %q", f, bob.text("docs/x"))
	}
}

func TestErrorsForPeersNameNoPlaceOfThisMachine(t *testing.T) {
	var n appstest.Net
	alice, eve := newPlace(t, &n, "a", "alice"), n.Join("e", "eve")
	alice.publish("x", random(10))
	os.RemoveAll(alice.dir)
	for _, path := range []string{"index", "index?since=x", "put", "get", "../x", "blocks/x", "%2e%2e"} {
		path, query, _ := strings.Cut(path, "?")
		q, _ := url.ParseQuery(query)
		c, err := eve.Open(t.Context(), alice.host.Self().ID, "cloud/"+path, q)
		if err == nil {
			c.Close()
		} else if strings.Contains(err.Error(), alice.dir) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestAPeerThatHasNewsAllTheTimeIsNotAskedAllTheTime(t *testing.T) {
	var n appstest.Net
	bob, eve := newPlace(t, &n, "b", "bob"), n.Join("e", "eve")
	refused := 0
	for range 30 {
		c, err := eve.Open(t.Context(), bob.host.Self().ID, "cloud/changed", nil)
		if err != nil {
			refused++
			continue
		}
		c.Close()
	}
	if refused < 15 {
		t.Errorf("%d of 30 were refused", refused)
	}
}

func TestAFileThatIsNotRightIsReadOnceHoweverOftenItIsAskedFor(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.publish("x", []byte("one"))
	k, _ := alice.app.index.Get("alice", "x")
	rows := alice.app.index.ByContent(k.Content().Hash, entry.Reader{User: "alice"})
	before := runtime.NumGoroutine()
	alice.app.treeMu.Lock() // so that reading takes long
	for range 1000 {
		alice.app.suspect(rows[0])
	}
	after := runtime.NumGoroutine()
	alice.app.treeMu.Unlock()
	if after > before+100 {
		t.Errorf("%d goroutines more", after-before)
	}
	alice.write("x", []byte("another"))
	appstest.Eventually(t, "it is looked into once more", func() bool {
		alice.app.suspect(rows[0])
		k, err := alice.app.index.Get("alice", "x")
		return err == nil && k.Held == index.None
	})
}

func TestWhatIsEditedWhileAFileIsFetchedGoesAside(t *testing.T) {
	var n appstest.Net
	bob, m := newPlace(t, &n, "b", "bob"), join(t, &n, "eve")
	for i, text := range []string{"first", "second"} {
		e := m.entry("x", text)
		e.Vector[0].N = uint64(i + 1)
		m.page = func(url.Values) []byte { return m.told(e) }
		m.block = func(wire.Request) (wire.Answer, []byte) {
			if text == "second" {
				os.WriteFile(bob.file("eve", "x"), []byte("edited meanwhile"), 0o600)
			}
			return wire.Answer{Status: wire.OK, Length: int64(len(text))}, []byte(text)
		}
		d, err := bob.download("/users/eve/x")
		if err != nil || d.Done != 1 || len(d.Aside) != i {
			t.Fatalf("%s: %+v, %v", text, d, err)
		}
		for _, aside := range d.Aside {
			if b, err := os.ReadFile(filepath.Join(filepath.Dir(bob.file("eve", "x")), aside)); string(b) != "edited meanwhile" {
				t.Errorf("aside is %q, %v", b, err)
			}
		}
		if b, err := os.ReadFile(bob.file("eve", "x")); string(b) != text {
			t.Errorf("it is %q, %v", b, err)
		}
	}
}

func TestWhatNobodyElseHasIsErasedOnlyWhereThatIsForced(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", []byte("one"), "bob")
	bob.wants("/users/alice/x", []byte("one"))
	if err := os.WriteFile(bob.file("alice", "x"), []byte("edited"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := bob.call("POST", "erase", Named{Path: "/users/alice/x"}, nil); err == nil {
		t.Error("what was edited here was erased")
	}
	alice.must("POST", "unpublish", Named{Path: "x"}, nil)
	if err := alice.call("POST", "erase", Named{Path: "x"}, nil); err == nil {
		t.Error("what is published no longer was erased")
	}
	alice.must("POST", "erase", Named{Path: "x", Force: true}, nil)
}

func TestASecondReaderDoesNotTakeThePlaceOfTheFirst(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.publish("x", []byte("one"), "bob")
	alice.publish("x", []byte("two"), "carol")
	if got := alice.files("x")["/users/alice/x"].Shared; got != "bob,carol" {
		t.Errorf("it is shared with %s", got)
	}
}
