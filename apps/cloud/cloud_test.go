package cloud

import (
	"bytes"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/learn"
	"ztm/apps/cloud/load"
	"ztm/apps/cloud/state"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// place is an endpoint with a cloud in a directory of its own.
type place struct {
	t    *testing.T
	host *appstest.Host
	app  *App
	dir  string
	stop func()
}

func newPlace(t *testing.T, n *appstest.Net, name, user string) *place {
	t.Helper()
	p := &place{t: t, host: n.Join(name, user), dir: filepath.Join(t.TempDir(), name)}
	p.start()
	p.must("PATCH", "config", config.Change{LocalDir: &p.dir}, nil)
	return p
}

// start starts the app, again if it was stopped.
func (p *place) start() {
	p.t.Helper()
	app, stop := p.host.Start(p.t, "cloud", New)
	p.app, p.stop = app.(*App), stop
	appstest.Eventually(p.t, "others see that it has a cloud", func() bool { return learn.Offered(Name, p.host.Self()) != "" })
}

func (p *place) call(method, path string, in, out any) error {
	return p.host.API(method, "cloud/"+path, in, out)
}

func (p *place) must(method, path string, in, out any) {
	p.t.Helper()
	if err := p.call(method, path, in, out); err != nil {
		p.t.Fatalf("%s: %s %s: %v", p.host.Self().Name, method, path, err)
	}
}

// file is where a file of a user is at this place.
func (p *place) file(user, path string) string {
	return filepath.Join(p.dir, "users", user, filepath.FromSlash(path))
}

// write writes a file into the local directory, as a person would.
func (p *place) write(path string, content []byte) {
	p.t.Helper()
	name := p.file(p.host.Self().User, path)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(name, content, 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// publish writes and publishes a file.
func (p *place) publish(path string, content []byte, share ...string) {
	p.t.Helper()
	p.write(path, content)
	var results []Result
	p.must("POST", "publish", Named{Path: path, Share: share}, &results)
	for _, r := range results {
		if r.Error != "" {
			p.t.Fatalf("publish %s: %s", r.Path, r.Error)
		}
	}
}

// download fetches what is at or below a name and returns how that ended.
func (p *place) download(name string) (load.Progress, error) {
	var d load.Progress
	if err := p.call("POST", "downloads", Named{Path: name}, &d); err != nil {
		return d, err
	}
	for !d.Ended {
		p.must("GET", "downloads/"+d.ID+"?wait=1", nil, &d)
	}
	return d, nil
}

// wants fetches a file and checks that it has the content then.
func (p *place) wants(name string, content []byte) {
	p.t.Helper()
	d, err := p.download(name)
	if err != nil || d.Done != d.Files {
		p.t.Fatalf("%s: download %s: %+v, %v", p.host.Self().Name, name, d, err)
	}
	user, path, _ := strings.Cut(strings.TrimPrefix(name, "/users/"), "/")
	if got, err := os.ReadFile(p.file(user, path)); err != nil || !bytes.Equal(got, content) {
		p.t.Fatalf("%s: %s has %d bytes, %v, want %d", p.host.Self().Name, name, len(got), err, len(content))
	}
}

func (p *place) files(query string) map[string]File {
	p.t.Helper()
	var list []File
	p.must(http.MethodGet, "files?path="+query, nil, &list)
	m := map[string]File{}
	for _, f := range list {
		m[f.Path] = f
	}
	return m
}

func random(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8)}).Read(b)
	return b
}

func TestAFileIsFoundAndFetchedFromWhoeverHoldsIt(t *testing.T) {
	var n appstest.Net
	publisher, holder, reader := newPlace(t, &n, "pub", "alice"), newPlace(t, &n, "hold", "bob"), newPlace(t, &n, "read", "carol")
	for name, size := range map[string]int{"empty": 0, "one block": 1000, "many": 3<<20 + 7} {
		publisher.publish("dir/"+name, random(size), "bob", "carol")
	}
	holder.wants("/users/alice/dir/many", random(3<<20+7))
	holder.wants("/users/alice/dir/empty", nil)
	holder.wants("/users/alice/dir/one block", random(1000))
	appstest.Eventually(t, "the reader sees two sources", func() bool {
		f := reader.files("/users/alice")["/users/alice/dir/many"]
		return f.State == state.Missing && f.Sources == 2 && f.Shared == "bob,carol" && f.Size == 3<<20+7
	})
	publisher.host.SetOnline(false)
	reader.wants("/users/alice/dir/many", random(3<<20+7))
	reader.wants("/users/alice/dir/empty", nil)
	if f := reader.files("/users/alice")["/users/alice/dir/many"]; f.State != state.Synced {
		t.Errorf("after the download: %+v", f)
	}
}

func TestOnlyTheUserAndReadersLearnOfAFile(t *testing.T) {
	var n appstest.Net
	alice, bob, second := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob"), newPlace(t, &n, "c", "alice")
	alice.publish("private/x", random(10))
	alice.publish("shared/y", random(20), "bob")
	if got := bob.files("/"); len(got) != 1 || got["/users/alice/shared/y"].Size != 20 {
		t.Errorf("the reader sees %v", got)
	}
	if got := second.files("/users/alice"); len(got) != 2 {
		t.Errorf("the user's other endpoint sees %v", got)
	}
	if _, err := bob.download("/users/alice/private/x"); err == nil {
		t.Error("a file was fetched by a user who may not")
	}
}

func TestAGroupReadsWhatIsSharedWithItWhileOneIsInIt(t *testing.T) {
	var n appstest.Net
	alice, holder, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "h", "carol"), newPlace(t, &n, "b", "bob")
	n.SetGroup("ops", "carol")
	alice.publish("x", random(300_000), "group:ops")
	holder.wants("/users/alice/x", random(300_000))
	if f := holder.files("/users/alice")["/users/alice/x"]; f.Shared != "group:ops" {
		t.Errorf("it is %+v", f)
	}
	if got := bob.files("/users/alice"); len(got) != 0 {
		t.Errorf("somebody who is in no group sees %v", got)
	}
	n.SetGroup("ops", "carol", "bob")
	appstest.Eventually(t, "who joins hears of the older file", func() bool { return len(bob.files("/users/alice&offline=1")) == 1 })
	alice.host.SetOnline(false)
	bob.wants("/users/alice/x", random(300_000))
	bob.must("POST", "erase", Named{Path: "/users/alice/x", Force: true}, nil)
	n.SetGroup("ops", "carol")
	if d, err := bob.download("/users/alice/x"); err != nil || d.Done > 0 {
		t.Errorf("who has left gets it from the holder: %+v, %v", d, err)
	}
}

func TestAccessThatIsTakenAwayEndsAtAllHolders(t *testing.T) {
	var n appstest.Net
	alice, holder := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "h", "carol")
	bob := newPlace(t, &n, "b", "bob")
	alice.publish("x", random(300_000), "bob", "carol")
	holder.wants("/users/alice/x", random(300_000))
	bob.files("/")
	alice.must("POST", "share", ShareChange{Path: "x", Remove: []string{"bob", "carol"}}, nil)
	appstest.Eventually(t, "the holder knows", func() bool { return len(holder.files("/users/alice&offline=1")) == 0 })
	for _, p := range []*place{bob, holder} {
		if got := p.files("/users/alice"); len(got) != 0 {
			t.Errorf("%s still sees %v", p.host.Self().Name, got)
		}
	}
	if _, err := bob.download("/users/alice/x"); err == nil {
		t.Error("it was fetched afterwards")
	}
	alice.must("POST", "share", ShareChange{Path: "x", Add: []string{"bob"}}, nil)
	bob.wants("/users/alice/x", random(300_000))
}

func TestWhatSomebodyEditedHereIsNotOverwritten(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("doc.txt", []byte("one"), "bob")
	bob.wants("/users/alice/doc.txt", []byte("one"))
	os.WriteFile(bob.file("alice", "doc.txt"), []byte("edited by bob"), 0o600)
	alice.publish("doc.txt", []byte("two"))
	if f := bob.files("/users/alice")["/users/alice/doc.txt"]; f.State != state.Changed {
		t.Errorf("the edited file is %+v", f)
	}
	d, err := bob.download("/users/alice/doc.txt")
	if err != nil || len(d.Aside) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if b, _ := os.ReadFile(bob.file("alice", "doc.txt")); string(b) != "two" {
		t.Errorf("the file has %q", b)
	}
	if b, _ := os.ReadFile(bob.file("alice", d.Aside[0])); string(b) != "edited by bob" {
		t.Errorf("%s has %q", d.Aside[0], b)
	}
}

func TestNewBytesNeverComeUnderAnOldHash(t *testing.T) {
	var n appstest.Net
	alice, bob, carol := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob"), newPlace(t, &n, "c", "carol")
	alice.publish("x", random(500_000), "bob", "carol")
	bob.wants("/users/alice/x", random(500_000))
	alice.write("x", random(500_001)) // not published
	carol.wants("/users/alice/x", random(500_000))
	bob.host.SetOnline(false)
	carol.host.SetOnline(false)
	second := newPlace(t, &n, "d", "alice")
	d, err := second.download("/users/alice/x")
	if err != nil || d.Done > 0 || len(d.Failed) != 1 {
		t.Errorf("with the edited file as the only source: %+v, %v", d, err)
	}
	if _, err := os.Stat(second.file("alice", "x")); !os.IsNotExist(err) {
		t.Errorf("something has the name: %v", err)
	}
}

func TestAFlippedBitIsFoundAndFetchedFromAnother(t *testing.T) {
	var n appstest.Net
	alice, bob, carol := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob"), newPlace(t, &n, "c", "carol")
	file := random(700_000)
	alice.publish("x", file, "bob", "carol")
	bob.wants("/users/alice/x", file)
	name := bob.file("alice", "x")
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	rot := bytes.Clone(file)
	rot[300_000] ^= 1
	os.WriteFile(name, rot, 0o600)
	os.Chtimes(name, time.Time{}, st.ModTime())
	var bad []File
	bob.must("POST", "verify", Named{Path: "/users/alice"}, &bad)
	if len(bad) != 1 || bad[0].State != state.Damaged {
		t.Errorf("verify says %+v", bad)
	}
	appstest.Eventually(t, "it is whole again", func() bool {
		return bob.files("/users/alice")["/users/alice/x"].State == state.Synced
	})
	carol.wants("/users/alice/x", file)
}

func TestAFlippedBitIsFoundByTheNextRequest(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", random(700_000), "bob")
	name := alice.file("alice", "x")
	st, _ := os.Stat(name)
	rot := random(700_000)
	rot[300_000] ^= 1
	os.WriteFile(name, rot, 0o600)
	os.Chtimes(name, time.Time{}, st.ModTime())
	if d, err := bob.download("/users/alice/x"); err != nil || d.Done > 0 {
		t.Errorf("a damaged file was fetched: %+v, %v", d, err)
	}
	appstest.Eventually(t, "the damage is known", func() bool {
		return alice.files("x")["/users/alice/x"].State == state.Damaged
	})
	var s Status
	alice.must("GET", "status", nil, &s)
	if len(s.Problems) != 1 || s.Problems[0].State != state.Damaged || s.Problems[0].Help == "" || s.Problems[0].Since.IsZero() {
		t.Errorf("status says %+v", s.Problems)
	}
}

func TestTheLastCopyIsErasedOnlyWhereThatIsForced(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", random(10), "bob")
	bob.wants("/users/alice/x", random(10))
	appstest.Eventually(t, "the publisher knows the other copy", func() bool { return alice.files("x")["/users/alice/x"].Sources == 2 })
	alice.must("POST", "erase", Named{Path: "x"}, nil)
	if _, err := os.Stat(alice.file("alice", "x")); !os.IsNotExist(err) {
		t.Errorf("the copy is still there: %v", err)
	}
	appstest.Eventually(t, "the holder knows that it is the only one", func() bool {
		return bob.files("/users/alice")["/users/alice/x"].Sources == 1
	})
	if err := bob.call("POST", "erase", Named{Path: "/users/alice/x"}, nil); err == nil {
		t.Error("the last copy was erased")
	}
	bob.must("POST", "erase", Named{Path: "/users/alice/x", Force: true, DryRun: true}, nil)
	if _, err := os.Stat(bob.file("alice", "x")); err != nil {
		t.Errorf("a dry run: %v", err)
	}
	bob.must("POST", "erase", Named{Path: "/users/alice/x", Force: true}, nil)
}

func TestAFileOfAnotherUserCannotBeChanged(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", random(10), "bob")
	bob.wants("/users/alice/x", random(10))
	for _, path := range []string{"publish", "unpublish"} {
		if err := bob.call("POST", path, Named{Path: "/users/alice/x"}, nil); err == nil {
			t.Errorf("%s was taken", path)
		}
	}
	if err := bob.call("POST", "share", ShareChange{Path: "/users/alice/x", Add: []string{"eve"}}, nil); err == nil {
		t.Error("it was shared")
	}
}

func TestAnUnpublishedFileStaysWhereItIsAndIsNotFound(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", random(10), "bob")
	bob.wants("/users/alice/x", random(10))
	var results []Result
	alice.must("POST", "unpublish", Named{Path: "x", DryRun: true}, &results)
	if len(results) != 1 || alice.files("x")["/users/alice/x"].State != state.Synced {
		t.Fatalf("a dry run: %v", results)
	}
	alice.must("POST", "unpublish", Named{Path: "x"}, nil)
	appstest.Eventually(t, "it is not listed", func() bool { return len(bob.files("/users/alice")) == 0 })
	for _, p := range []*place{alice, bob} {
		if _, err := os.Stat(p.file("alice", "x")); err != nil {
			t.Error(err)
		}
	}
	if got := alice.files("x")["/users/alice/x"].State; got != state.Unpublished {
		t.Errorf("at the publisher it is %s", got)
	}
	alice.publish("x", random(10), "bob")
	bob.wants("/users/alice/x", random(10))
}

func TestAFileThatIsStreamedInIsPublished(t *testing.T) {
	var n appstest.Net
	alice, second, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "a2", "alice"), newPlace(t, &n, "b", "bob")
	var in bytes.Buffer
	for path, size := range map[string]int{"a": 0, "d/b": 5, "c": 300_000} {
		head, _ := json.Marshal(Upload{Path: path, Size: int64(size), Time: 1000, Share: []string{"bob"}})
		in.Write(append(head, '\n'))
		in.Write(append(random(size), Whole))
	}
	head, _ := json.Marshal(Upload{Path: "../x", Size: 4})
	in.Write(append(append(head, '\n'), "evil+"...))
	conn, err := second.host.Open(t.Context(), alice.host.Self().ID, "cloud/put", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // ends when all is sent
		conn.Write(in.Bytes())
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	out, err := io.ReadAll(conn)
	conn.Close()
	if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); err != nil || len(lines) != 4 || strings.Count(string(out), `"error"`) != 1 {
		t.Fatalf("%q, %v", out, err)
	}
	bob.wants("/users/alice/c", random(300_000))
	bob.wants("/users/alice/d/b", random(5))
	if _, err := bob.host.Open(t.Context(), alice.host.Self().ID, "cloud/put", nil); err == nil {
		t.Error("another user could stream a file in")
	}
	if _, err := bob.host.Open(t.Context(), alice.host.Self().ID, "cloud/get", nil); err == nil {
		t.Error("another user could read a file by its path")
	}
}

func TestAFileThatGrowsIsPublishedInOneStateOrNotAtAll(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.write("log", random(1000))
	f, err := os.OpenFile(alice.file("alice", "log"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with stop
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				if at, _ := f.Seek(0, io.SeekEnd); at > 1<<20 {
					f.Truncate(1000) // it is no longer than it can be read in a moment
				}
				f.Write(random(5000))
			}
		}
	}()
	for range 5 {
		var results []Result
		alice.must("POST", "publish", Named{Path: "log", Share: []string{"bob"}}, &results)
		if len(results) != 1 || results[0].Error != "" && !strings.Contains(results[0].Error, "changing") {
			t.Errorf("publish says %+v", results)
		}
	}
	close(stop)
	<-stopped
	f.Close()
	whole, _ := os.ReadFile(alice.file("alice", "log"))
	alice.publish("log", whole, "bob")
	bob.wants("/users/alice/log", whole)
}

func TestTimesNameThingsAndDecideNothing(t *testing.T) {
	var n appstest.Net
	alice, second, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "c", "alice"), newPlace(t, &n, "b", "bob")
	for i, at := range []time.Time{time.Unix(1<<31+5, 0), time.Now(), time.Unix(0, 0)} { // each version is older than the one before
		from := []*place{alice, second, alice}[i]
		if i > 0 {
			from.files("/users/alice") // it knows the version before
			from.download("/users/alice/x")
		}
		from.write("x", random(10+i))
		os.Chtimes(from.file("alice", "x"), at, at)
		var results []Result
		from.must("POST", "publish", Named{Path: "x", Share: []string{"bob"}}, &results)
		bob.wants("/users/alice/x", random(10+i))
		if st, err := os.Stat(bob.file("alice", "x")); err != nil || st.ModTime().Unix() != at.Unix() {
			t.Errorf("the time %v arrived as %v, %v", at, st.ModTime(), err)
		}
	}
}

func TestWhatARemoteChangeReplacedCanBeRestored(t *testing.T) {
	var n appstest.Net
	alice, second := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "c", "alice")
	alice.publish("x", []byte("one"))
	second.wants("/users/alice/x", []byte("one"))
	alice.publish("x", []byte("two, longer"))
	second.wants("/users/alice/x", []byte("two, longer"))
	var list []Version
	second.must("GET", "versions?path=x", nil, &list)
	if len(list) != 1 || list[0].Path != "/users/alice/x" || list[0].Size != 3 {
		t.Fatalf("versions are %+v", list)
	}
	second.must("POST", "restore", Restoring{Path: "x", Version: list[0].Version}, nil)
	if b, err := os.ReadFile(second.file("alice", "x")); string(b) != "one" {
		t.Errorf("restored is %q, %v", b, err)
	}
	alice.wants("/users/alice/x", []byte("one"))
	second.must("GET", "versions?path=x", nil, &list)
	if len(list) != 1 || list[0].Size != 11 {
		t.Errorf("what it replaced is not kept: %+v", list)
	}
	if err := second.call("POST", "restore", Restoring{Path: "y"}, nil); err == nil {
		t.Error("something was restored that never was")
	}
}
