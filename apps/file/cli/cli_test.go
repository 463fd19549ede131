package cli

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/file"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// mesh is two endpoints of alice and one of bob, whose agents all see this machine's files.
type mesh struct {
	t                   testing.TB
	office, home, phone *appstest.Host
	dir                 string
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	var n appstest.Net
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, office: n.Join("office", "alice"), home: n.Join("home", "alice"), phone: n.Join("phone", "bob"), dir: dir}
	for _, h := range []*appstest.Host{m.office, m.home, m.phone} {
		h.Start(t, file.Name, file.New)
	}
	return m
}

func (m *mesh) path(name string) string { return filepath.Join(m.dir, name) }

// run runs `ztm file` at an endpoint. Flags come first in args.
func (m *mesh) run(at *appstest.Host, args ...string) appstest.Result {
	c := &appstest.Console{Host: at, JSON: slices.Contains(args, "-o=json")}
	return c.Capture(func() error { return appstest.RunCommand(commands(c), args...) })
}

// good is run for what must work.
func (m *mesh) good(at *appstest.Host, args ...string) string {
	m.t.Helper()
	r := m.run(at, args...)
	if r.Failure != "" || r.Status != 0 {
		m.t.Fatalf("ztm file %v: %s\n%s", args, r.Failure, r.Err)
	}
	return r.Out
}

func (m *mesh) write(name, text string) {
	m.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(m.path(name)), 0o755), os.WriteFile(m.path(name), []byte(text), 0o644)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mesh) read(name string) string {
	b, err := os.ReadFile(m.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "(nothing)"
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return string(b)
}

func TestACopyGoesWhereCpWouldPutIt(t *testing.T) {
	m := newMesh(t)
	m.write("a/file", "text")
	m.write("a/tree/deep/x", "x")
	for _, dir := range []string{"into", "here", "other"} {
		if err := os.Mkdir(m.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args       []string
		made, text string
	}{
		{[]string{"cp", m.path("a/file"), "home:" + m.path("new")}, "new", "text"},
		{[]string{"cp", m.path("a/file"), "home:" + m.path("into")}, "into/file", "text"},
		{[]string{"cp", m.path("a/file"), "home:" + m.path("here") + "/"}, "here/file", "text"},
		{[]string{"cp", "home:" + m.path("a/file"), m.path("fetched")}, "fetched", "text"},
		{[]string{"get", "--to", m.path("other"), "home:" + m.path("a/file")}, "other/file", "text"},
		{[]string{"cp", "-r", m.path("a/tree"), "home:" + m.path("into")}, "into/tree/deep/x", "x"},
		{[]string{"cp", "-r", m.path("a/tree"), "home:" + m.path("tree2")}, "tree2/deep/x", "x"},
		{[]string{"cp", "-r", "home:" + m.path("a/tree"), m.path("a/tree/"), "home:" + m.path("other")}, "other/tree/deep/x", "x"},
		{[]string{"cp", "office:" + m.path("a/file"), "home:" + m.path("third")}, "third", "text"},
	} {
		m.good(m.office, tt.args...)
		if got := m.read(tt.made); got != tt.text {
			t.Errorf("%v: %s is %q", tt.args, tt.made, got)
		}
	}
	for _, args := range [][]string{
		{"cp", m.path("none"), "home:" + m.path("refused")},
		{"cp", "home:" + m.path("none"), m.path("refused")},
		{"cp", m.path("a/file"), "home:" + m.path("refused") + "/"},
		{"cp", m.path("a/file"), m.path("a/file"), "home:" + m.path("refused")},
		{"cp", m.path("a/file"), m.path("refused")},
		{"cp", "-r", "home:/", m.path("refused")},
		{"cp", m.path("a/file"), "nowhere:" + m.path("refused")},
		{"cp", m.path("a/file")},
		{"get"},
		{"send", m.path("a/file")},
	} {
		if r := m.run(m.office, args...); r.Failure == "" || m.read("refused") != "(nothing)" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

func TestADirectoryIsCopiedOnlyWhenThatIsAskedFor(t *testing.T) {
	m := newMesh(t)
	m.write("tree/deep/x", "x")
	for _, args := range [][]string{
		{"cp", m.path("tree"), "home:" + m.path("refused")},
		{"cp", "home:" + m.path("tree"), m.path("refused")},
		{"cp", "office:" + m.path("tree"), "home:" + m.path("refused")},
		{"get", "--to", m.dir, "home:" + m.path("tree")},
		{"send", m.path("tree"), "home"},
	} {
		want := m.path("tree") + ": is a directory: -r copies all that is in it"
		if r := m.run(m.office, args...); r.Failure != want || m.read("refused") != "(nothing)" {
			t.Errorf("%v: %+v, want %q", args, r, want)
		}
	}
}

func TestPathsOfThisMachineAreReadFromHere(t *testing.T) {
	m := newMesh(t)
	m.write("far/file", "text")
	m.write("here/own", "own")
	t.Chdir(m.path("here"))
	if err := os.Mkdir("sub", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args       []string
		made, text string
	}{
		{[]string{"cp", "home:" + m.path("far/file"), "."}, "here/file", "text"},
		{[]string{"cp", "home:" + m.path("far/file"), "sub"}, "here/sub/file", "text"},
		{[]string{"cp", "home:" + m.path("far/file"), "new"}, "here/new", "text"},
		{[]string{"cp", "home:" + m.path("far/file"), "../up"}, "up", "text"},
		{[]string{"cp", "own", "home:" + m.path("far")}, "far/own", "own"},
		{[]string{"cp", "-r", "sub", "home:" + m.path("far")}, "far/sub/file", "text"},
	} {
		m.good(m.office, tt.args...)
		if got := m.read(tt.made); got != tt.text {
			t.Errorf("%v: %s is %q", tt.args, tt.made, got)
		}
	}
	if err := os.Remove("file"); err != nil {
		t.Fatal(err)
	}
	m.good(m.office, "get", "home:"+m.path("far/file"))
	if got := m.read("here/file"); got != "text" {
		t.Errorf("get: %q", got)
	}
}

func TestTheSessionOfOldLists(t *testing.T) {
	m := newMesh(t)
	m.write("d/b", "bb")
	m.write("d/a/x", "")
	at := &appstest.Console{Host: m.office, At: m.home}
	r := at.Capture(func() error { return appstest.RunCommand(commands(at), "ls", m.path("d")) })
	plain := m.good(m.office, "ls", "home:"+m.path("d"))
	if r.Out != plain || !strings.HasPrefix(plain, "NAME") || !slices.Contains(strings.Fields(plain), "a/") || !strings.Contains(plain, "b     2 ") {
		t.Errorf("with the prefix:\n%s%s\nwithout:\n%s", r.Failure, r.Out, plain)
	}
	var list []file.Info
	if err := json.Unmarshal([]byte(m.good(m.office, "-o=json", "ls", "home:"+m.path("d/b"))), &list); err != nil || len(list) != 1 || list[0].Name != "b" || list[0].Size != 2 {
		t.Errorf("%+v, %v", list, err)
	}
	if out := m.good(m.office, "ls", "-l", "home:"+m.path("d")); !strings.Contains(out, "-rw-r--r--") {
		t.Error(out)
	}
}

func TestNamesFromAnotherEndpointAreEscaped(t *testing.T) {
	m := newMesh(t)
	m.write("d/a\x1b[2Jb", "x")
	if out := m.good(m.office, "ls", "home:"+m.path("d")); strings.Contains(out, "\x1b") || !strings.Contains(out, `\x1b`) {
		t.Errorf("%q", out)
	}
	var list []file.Info
	if err := json.Unmarshal([]byte(m.good(m.office, "-o=json", "ls", "home:"+m.path("d"))), &list); err != nil || len(list) != 1 || list[0].Name != "a\x1b[2Jb" {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestOthersReachWhatIsAllowedAndNothingElse(t *testing.T) {
	m := newMesh(t)
	m.write("pub/x", "public")
	m.write("pub/closed/y", "closed")
	m.write("pub2/x", "secret")
	m.write("drop/.keep", "")
	m.write("drop/closed/.keep", "")
	m.write("secret", "secret")
	for link, to := range map[string]string{"pub/out": "../secret", "pub/dir": "..", "pub/in": "x"} {
		if err := os.Symlink(to, m.path(link)); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(path string) appstest.Result { return m.run(m.phone, "cp", "office:"+path, m.path("got")) }
	if r := reads(m.path("pub/x")); r.Failure == "" {
		t.Fatal("by default others read")
	}
	m.good(m.office, "allow", "--users", "bob", m.path("pub"))
	m.good(m.office, "allow", "--users", "carol", m.path("pub/closed"))
	m.good(m.office, "allow", "--users", "bob", "--write", m.path("drop"))
	if r := reads(m.path("pub/x")); r.Failure != "" || m.read("got") != "public" {
		t.Fatalf("%+v", r)
	}
	denied := ""
	for _, path := range []string{"/etc/passwd", m.path("secret"), m.path("pub2/x"), m.path("none"), m.path("pub") + "/../secret", m.path("pub") + "/../pub2/x",
		"/" + m.path("pub2/x"), m.path("PUB/x"), "pub/x", "~/x", "", m.path("pub/closed/y"), m.path("pub/closed/none"), m.path("pub") + "x"} {
		os.Remove(m.path("got"))
		r := reads(path)
		if r.Failure == "" || m.read("got") != "(nothing)" {
			t.Errorf("%s was read: %+v", path, r)
		}
		text := strings.ReplaceAll(r.Failure, apps.Bytes(path).String(), "PATH")
		if denied == "" {
			denied = text
		}
		if !strings.HasSuffix(path, "none") && text != denied && path != "" {
			t.Errorf("%s: %q, elsewhere %q", path, text, denied)
		}
	}
	for _, path := range []string{"pub/out", "pub/dir/secret", "pub/dir/pub2/x", "pub/in", "pub/out/"} {
		if r := reads(m.path("pub/") + "/" + strings.TrimPrefix(path, "pub/")); r.Failure == "" || m.read("got") != "(nothing)" {
			t.Errorf("%s was read: %+v", path, r)
		}
	}
	for path, ok := range map[string]bool{"drop/new": true, "drop/.keep": true, "pub/new": false, "new": false, "drop/../new": false, "pub/x": false} {
		r := m.run(m.phone, "cp", m.path("pub/x"), "office:"+m.dir+"/"+path)
		if (r.Failure == "") != ok {
			t.Errorf("%s was written: %+v", path, r)
		}
	}
	// What is narrowed within is not reached by way of what is around it.
	m.good(m.office, "allow", "--users", "carol", "--write", m.path("drop/closed"))
	if r := m.run(m.phone, "cp", "-r", "office:"+m.path("pub"), m.path("all")); r.Failure == "" || m.read("all/closed/y") != "(nothing)" {
		t.Errorf("it was read with all around it: %+v", r)
	}
	for _, to := range []string{"drop", "drop/"} {
		if r := m.run(m.phone, "cp", "-r", m.path("pub/closed"), "office:"+m.dir+"/"+to); r.Failure == "" || m.read("drop/closed/y") != "(nothing)" {
			t.Errorf("it was written by the name of a copy: %+v", r)
		}
	}
	if r := m.run(m.phone, "cp", m.path("pub/x"), "office:"+m.path("drop")); r.Failure != "" || m.read("drop/x") != "public" {
		t.Errorf("beside it: %+v", r)
	}
	if m.read("new") != "(nothing)" || m.read("pub/new") != "(nothing)" || m.read("pub/x") != "public" {
		t.Error("something was written")
	}
	m.good(m.office, "allow", "--remove", m.path("pub"))
	if r := reads(m.path("pub/x")); r.Failure == "" {
		t.Error("what was taken away is still read")
	}
	if out := m.good(m.office, "allow"); strings.Contains(out, "pub\n") || !strings.Contains(out, "read, write") {
		t.Error(out)
	}
	if r := m.run(m.phone, "allow", m.path("pub")); r.Failure == "" {
		t.Error("a path without users was taken")
	}
}

func TestAccessThatIsTakenAwayEndsACopyThatRuns(t *testing.T) {
	m := newMesh(t)
	m.write("pub/x", "")
	if err := os.Truncate(m.path("pub/x"), 64<<20); err != nil {
		t.Fatal(err)
	}
	m.good(m.office, "allow", "--users", "bob", m.path("pub"))
	conn, err := m.phone.Open(t.Context(), m.office.Self().ID, "file/read", map[string][]string{"path": {m.path("pub/x")}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m.good(m.office, "allow", "--remove", m.path("pub"))
	buf := make([]byte, 64<<10)
	for err == nil {
		_, err = conn.Read(buf)
	}
}

func TestAnInboxTakesWhatItsOwnerHasSeen(t *testing.T) {
	m := newMesh(t)
	m.write("gift", "first")
	m.write("more/gift", "second")
	m.write("dir/a/b", "b")
	m.good(m.office, "inbox", "--dir", m.path("inbox"))
	if r := m.run(m.phone, "send", m.path("gift"), "office"); !strings.Contains(r.Failure, "ask the owner of office") {
		t.Errorf("by default: %+v", r)
	}
	m.good(m.home, "send", m.path("gift"), "office")
	if err := os.Mkdir(m.path("dir/unseen"), 0o755); err != nil { // an offer has no such name: nobody consents to it
		t.Fatal(err)
	}
	m.good(m.home, "send", "-r", m.path("more/gift"), m.path("dir"), "office")
	if _, err := os.Stat(m.path("inbox/alice/dir/unseen")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory was made that was not offered: %v", err)
	}
	for name, want := range map[string]string{"gift": "first", "gift-2": "second", "dir/a/b": "b"} {
		if got := m.read("inbox/alice/" + name); got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	m.good(m.office, "inbox", "--add-user", "bob")
	for _, accept := range []bool{false, true} {
		sent := make(chan appstest.Result, 1)
		go func() { sent <- m.run(m.phone, "send", m.path("gift"), "office") }()
		offer := m.waiting()
		if got := offer.Items; len(got) != 1 || got[0] != (file.Item{Path: "gift", Size: 5}) || m.read("inbox/bob/gift") != "(nothing)" {
			t.Errorf("offered: %+v", offer)
		}
		if out := m.good(m.office, "inbox"); !strings.Contains(out, "gift") {
			t.Error(out)
		}
		m.good(m.office, "inbox", map[bool]string{true: "--accept", false: "--refuse"}[accept], offer.ID)
		select {
		case r := <-sent:
			if (r.Failure == "") != accept {
				t.Errorf("accept %v: %+v", accept, r)
			}
		case <-time.After(appstest.Timeout):
			t.Fatalf("accept %v: the command does not end", accept)
		}
	}
	if got := m.read("inbox/bob/gift"); got != "first" {
		t.Errorf("it is %q", got)
	}
	many := m.path("many")
	for i := range 1001 {
		m.write(fmt.Sprintf("many/%d", i), "")
	}
	if r := m.run(m.phone, "send", "-r", many, "office"); r.Failure == "" {
		t.Error("a thousand files were offered")
	}
}

func TestAnInboxTakesOfAUserWhatItsQuotaHasRoomFor(t *testing.T) {
	m := newMesh(t)
	m.write("first", "12345")
	m.write("second", "123456")
	if out := m.good(m.office, "inbox", "--dir", m.path("inbox"), "--add-user", "bob", "--quota", "10"); !strings.Contains(out, "10 B") {
		t.Error(out)
	}
	offered := func() (id string) {
		t.Helper()
		var offers []file.Offer
		appstest.Eventually(t, "it is offered", func() bool { return m.office.API("GET", "file/offers", nil, &offers) == nil && len(offers) == 1 })
		return offers[0].ID
	}
	accept := func(id string) { t.Helper(); m.good(m.office, "inbox", "--accept", id) }
	sends := func(name string) <-chan appstest.Result {
		sent := make(chan appstest.Result, 1)
		go func() {
			r := m.run(m.phone, "send", m.path(name), "office")
			for strings.Contains(r.Failure, "--quota") { // the end of the last one is not counted yet
				r = m.run(m.phone, "send", m.path(name), "office")
			}
			sent <- r
		}()
		return sent
	}
	refused := func(when string) {
		t.Helper()
		if r := m.run(m.phone, "send", m.path("second"), "office"); !strings.Contains(r.Failure, "--quota") {
			t.Errorf("%s: %+v", when, r)
		}
	}
	first := sends("first")
	offer := offered()
	refused("what waits counts")
	accept(offer)
	if r := <-first; r.Failure != "" {
		t.Fatalf("%+v", r)
	}
	refused("what is there counts")
	m.write("large", "1234567890123")
	m.good(m.home, "send", m.path("large"), "office") // its own user has no quota
	if err := os.Remove(m.path("inbox/bob/first")); err != nil {
		t.Fatal(err)
	}
	second := sends("second")
	accept(offered())
	if r := <-second; r.Failure != "" || m.read("inbox/bob/second") != "123456" {
		t.Errorf("there is room again: %+v", r)
	}
	m.good(m.office, "inbox", "--quota", "off")
	third := sends("second")
	accept(offered())
	if r := <-third; r.Failure != "" {
		t.Errorf("without a quota: %+v", r)
	}
}

func TestACopyThatIsNotCompleteFails(t *testing.T) {
	m := newMesh(t)
	m.write("d/a", "a")
	m.write("d/b", "b")
	m.write("e/d/a", "old")
	if err := os.Mkdir(m.path("e/d/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := m.run(m.office, "cp", "-r", m.path("d"), "home:"+m.path("e"))
	if r.Failure != "not complete: 1 of 2 files" || !strings.Contains(r.Err, "d/b: ") || m.read("e/d/a") != "a" {
		t.Errorf("%+v", r)
	}
}

func TestACopyIsContinued(t *testing.T) {
	m := newMesh(t)
	b := make([]byte, 5<<20+3)
	rand.Read(b)
	m.write("big", string(b))
	m.good(m.office, "cp", m.path("big"), "home:"+m.path("copy"))
	if out := m.good(m.office, "-o=json", "cp", m.path("big"), "home:"+m.path("copy")); !strings.Contains(out, `"same":1`) {
		t.Error(out)
	}
	var o struct{ Files, Bytes int64 }
	if err := json.Unmarshal([]byte(m.good(m.office, "-o=json", "cp", "-u", m.path("big"), "home:"+m.path("copy"))), &o); err != nil || o.Files != 1 || o.Bytes != int64(len(b)) {
		t.Errorf("%+v, %v", o, err)
	}
	if diff := cmp.Diff(m.read("big"), m.read("copy")); diff != "" {
		t.Error("they differ")
	}
}

func TestACopyKeepsToItsLimit(t *testing.T) {
	m := newMesh(t)
	m.write("big", strings.Repeat("x", 128<<10))
	if err := os.Mkdir(m.path("out"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"cp", "--limit", "256K", m.path("big"), "home:" + m.path("there")},
		{"get", "--limit", "256k", "--to", m.path("out"), "home:" + m.path("big")},
	} {
		began := time.Now()
		m.good(m.office, args...)
		if d := time.Since(began); d < 400*time.Millisecond {
			t.Errorf("%s: 128 KiB at 256 KiB/s took %v", args[0], d)
		}
	}
	if r := m.run(m.office, "cp", "--limit", "fast", m.path("big"), "home:"+m.path("again")); !strings.Contains(r.Failure, "--limit") {
		t.Errorf("%+v", r)
	}
}
