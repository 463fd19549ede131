package transfer

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/rooted"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func open(t testing.TB, dir string) *rooted.Dir {
	t.Helper()
	d, err := rooted.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func named(t testing.TB, s string) rooted.Name {
	t.Helper()
	n, err := rooted.LocalName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// outcome is what both sides say of a copy.
type outcome struct {
	sent, got       Report
	sendErr, getErr error
}

// over copies dir/name to a directory, over a connection that wrap may spoil.
func over(t testing.TB, dir, name, to string, as rooted.Name, o Options, wrap func(net.Conn) net.Conn) outcome {
	t.Helper()
	o.Recursive = true
	return send(t, dir, name, to, as, o, wrap)
}

// send is over for a sender that may leave directories out.
func send(t testing.TB, dir, name, to string, as rooted.Name, o Options, wrap func(net.Conn) net.Conn) (x outcome) {
	t.Helper()
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		near = wrap(near)
	}
	src := Source{open(t, dir), named(t, name)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		x.sent, x.sendErr = Send(near, []Source{src}, o)
	}()
	ro := o
	ro.Meter = nil
	x.got, x.getErr = Receive(far, Target{open(t, to), as}, ro)
	<-done
	return x
}

// clean copies, and fails the test unless all is well.
func clean(t testing.TB, dir, name, to string, o Options) Report {
	t.Helper()
	x := over(t, dir, name, to, rooted.Name{}, o, nil)
	if x.sendErr != nil || x.getErr != nil || len(x.got.Failures) > 0 {
		t.Fatalf("sender: %v; receiver: %v; %+v", x.sendErr, x.getErr, x.got)
	}
	if diff := cmp.Diff(x.got, x.sent); diff != "" {
		t.Errorf("the two sides do not say the same (-receiver +sender):\n%s", diff)
	}
	return x.got
}

func put(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// listing is a tree with all that is copied of it.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		var text []byte
		if info.Mode().IsRegular() {
			text, err = os.ReadFile(path)
		}
		rel, _ := filepath.Rel(dir, path)
		all[rel] = fmt.Sprintf("%v %v %x", info.Mode(), info.ModTime().UnixNano(), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestATreeArrivesAsItIs(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for name, n := range map[string]int{"empty": 0, "one": 1, "a/chunk": chunk, "a/chunk1": chunk + 1, "a/b/block": block, "a/b/block1": block + 1,
		"a/b/large": 3*block + 5, "z/a b": 10, "z/ü": 10, "z/-rf": 10, "z/a\nb": 10} {
		put(t, filepath.Join(from, "top", name), random(n))
	}
	for i, when := range []time.Time{time.Unix(0, 1), time.Date(2038, 1, 19, 3, 14, 8, 5, time.UTC), time.Unix(-1e9, 0)} {
		path := filepath.Join(from, "top", "times", fmt.Sprint(i))
		put(t, path, random(5))
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]fs.FileMode{"one": 0o400, "a/chunk": 0o751, "a": 0o700, "z": 0o555} {
		if err := os.Chmod(filepath.Join(from, "top", path), mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		os.Chmod(filepath.Join(from, "top/z"), 0o755)
		os.Chmod(filepath.Join(to, "top/z"), 0o755)
	})
	if err := os.MkdirAll(filepath.Join(from, "top", "no", "files", "here"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := clean(t, from, "top", to, Options{})
	if diff := cmp.Diff(listing(t, from), listing(t, to)); diff != "" {
		t.Errorf("(-sent +received):\n%s", diff)
	}
	if r.Files != 14 || r.Resumed != 0 || r.Same != 0 {
		t.Errorf("the report is %+v", r)
	}
	again := clean(t, from, "top", to, Options{})
	if diff := cmp.Diff(listing(t, from), listing(t, to)); diff != "" || again.Files != 14 || again.Same != 2 {
		t.Errorf("the second time: %+v (-sent +received):\n%s", again, diff)
	}
	if r := clean(t, from, "top", to, Options{Update: true}); r.Same != 14 || r.Files != 14 {
		t.Errorf("with update: %+v", r)
	}
}

func TestNamesNeedNotBeUTF8(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	name := "\xff\xfe\x80"
	if err := os.WriteFile(filepath.Join(from, name), []byte("x"), 0o600); err != nil {
		t.Skip("not on this file system: ", err)
	}
	clean(t, from, name, to, Options{})
	if diff := cmp.Diff(listing(t, from), listing(t, to)); diff != "" {
		t.Errorf("(-sent +received):\n%s", diff)
	}
}

// cut breaks a connection when so many bytes were written.
type cut struct {
	net.Conn
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if c.left -= len(p); c.left < 0 {
		c.Conn.(interface{ CloseWrite() error }).CloseWrite()
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func (c *cut) Reset() error { return c.Close() } // what was written arrives

func TestAnInterruptedCopyGoesOnWhereItWas(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "f"), random(10*block+77))
	put(t, filepath.Join(to, "f"), []byte("old"))
	broken := func(c net.Conn) net.Conn { return &cut{c, 4*block + block/2} }
	x := over(t, from, "f", to, rooted.Name{}, Options{}, broken)
	if x.sendErr == nil || x.getErr == nil {
		t.Fatalf("nothing was interrupted: %+v", x)
	}
	if b, err := os.ReadFile(filepath.Join(to, "f")); string(b) != "old" || err != nil {
		t.Errorf("meanwhile there is %.20q, %v", b, err)
	}
	if r := clean(t, from, "f", to, Options{}); r.Resumed < block || r.Resumed > 4*block {
		t.Errorf("the report is %+v", r)
	}
	if diff := cmp.Diff(listing(t, from), listing(t, to)); diff != "" {
		t.Errorf("(-sent +received)")
	}
}

func TestWhatNobodyWentOnWithIsRemovedByALaterCopy(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "top", "x"), []byte("x"))
	for _, name := range []string{".ztm-a.part", "top/.ztm-b.part", "top/fresh/.ztm-c.part"} {
		put(t, filepath.Join(to, name), []byte("left"))
		old := time.Now().Add(-leftTime - time.Hour)
		if err := os.Chtimes(filepath.Join(to, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(to, "top", ".ztm-d.part"), []byte("of today"))
	clean(t, from, "top", to, Options{})
	for name, stays := range map[string]bool{".ztm-a.part": false, "top/.ztm-b.part": false, "top/fresh/.ztm-c.part": true, "top/.ztm-d.part": true} {
		if _, err := os.Stat(filepath.Join(to, name)); (err == nil) != stays {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestASoleCopyGoesOnWithWhatWasLeftOrRemovesIt(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "f"), random(10*block))
	broken := func(c net.Conn) net.Conn { return &cut{c, 6 * block} }
	parts := func() (n int) {
		for _, pattern := range []string{".ztm-*.part", "*/.ztm-*.part"} {
			list, _ := filepath.Glob(filepath.Join(to, pattern))
			n += len(list)
		}
		return n
	}
	put(t, filepath.Join(to, "dir", ".ztm-x.part"), random(3))
	for hour := range 3 {
		then := time.Unix(int64(hour)*3600, 0)
		if err := os.Chtimes(filepath.Join(from, "f"), then, then); err != nil {
			t.Fatal(err)
		}
		over(t, from, "f", to, rooted.Name{}, Options{Sole: true}, broken)
		if n := parts(); n != 1 {
			t.Fatalf("%d parts are kept after the file was changed %d times", n, hour)
		}
	}
	if r := clean(t, from, "f", to, Options{Sole: true}); r.Resumed == 0 || parts() != 0 {
		t.Errorf("%d parts, %+v", parts(), r)
	}
	put(t, filepath.Join(from, "small"), random(10))
	put(t, filepath.Join(to, ".ztm-y.part"), random(3))
	if clean(t, from, "small", to, Options{Sole: true}); parts() != 0 {
		t.Error("a small file leaves it there")
	}
}

func TestWhatWasKeptIsNotTrusted(t *testing.T) {
	appstest.Long(t)
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, from, part string)
	}{
		{"damaged at the beginning", func(t *testing.T, _, part string) { flip(t, part, 5) }},
		{"damaged later", func(t *testing.T, _, part string) { flip(t, part, 2*block+5) }},
		{"a short file", func(t *testing.T, _, part string) { os.Truncate(part, block+3) }},
		{"a long one", func(t *testing.T, _, part string) { os.Truncate(part, 20*block) }},
		{"the source is another one", func(t *testing.T, from, _ string) { put(t, from, random(10*block)) }},
		{"the source is another one of the same time", func(t *testing.T, from, _ string) {
			info, err := os.Stat(from)
			if err != nil {
				t.Fatal(err)
			}
			put(t, from, random(10*block))
			os.Chtimes(from, info.ModTime(), info.ModTime())
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := t.TempDir(), t.TempDir()
			put(t, filepath.Join(from, "f"), random(10*block))
			over(t, from, "f", to, rooted.Name{}, Options{}, func(c net.Conn) net.Conn { return &cut{c, 6 * block} })
			parts, _ := filepath.Glob(filepath.Join(to, ".ztm-*.part"))
			if len(parts) != 1 {
				t.Fatalf("kept: %v", parts)
			}
			tt.spoil(t, filepath.Join(from, "f"), parts[0])
			clean(t, from, "f", to, Options{})
			if !same(t, filepath.Join(from, "f"), filepath.Join(to, "f")) {
				t.Error("they differ")
			}
		})
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil || len(b) <= at {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, a, b string) bool {
	t.Helper()
	x, err1 := os.ReadFile(a)
	y, err2 := os.ReadFile(b)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func TestWhatIsNotAskedForIsNotReplaced(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "top/small"), random(10))
	put(t, filepath.Join(from, "top/large"), random(3*block))
	put(t, filepath.Join(from, "top/new"), random(10))
	put(t, filepath.Join(to, "top/small"), []byte("old"))
	put(t, filepath.Join(to, "top/large"), []byte("old"))
	x := over(t, from, "top", to, rooted.Name{}, Options{Keep: true}, nil)
	if x.sendErr != nil || x.getErr != nil || len(x.got.Failures) != 2 || x.got.Files != 1 {
		t.Errorf("%+v", x)
	}
	for _, name := range []string{"small", "large"} {
		if b, err := os.ReadFile(filepath.Join(to, "top", name)); string(b) != "old" || err != nil {
			t.Errorf("%s is %.20q, %v", name, b, err)
		}
	}
}

func TestTheReceiverChoosesTheNameOfWhatItAskedFor(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, ".bashrc"), []byte("x"))
	x := over(t, from, ".bashrc", to, named(t, "wanted"), Options{}, nil)
	if got := listing(t, to); len(got) != 1 || got["wanted"] == "" || x.getErr != nil {
		t.Errorf("there is %v, %v", got, x.getErr)
	}
	x = over(t, from, ".bashrc", to, rooted.Name{}, Options{}, nil)
	if got := listing(t, to); len(got) != 1 || len(x.got.Failures) != 1 {
		t.Errorf("a name with a dot that was not asked for: %v, %+v", got, x.got)
	}
	put(t, filepath.Join(from, "wanted"), []byte("y"))
	clean(t, from, "wanted", to, Options{Number: true})
	clean(t, from, "wanted", to, Options{Number: true})
	if got := listing(t, to); len(got) != 3 || got["wanted-2"] == "" || got["wanted-3"] == "" {
		t.Errorf("with numbers there is %v", got)
	}
}

func TestThousandsOfSmallFilesAreOneStream(t *testing.T) {
	appstest.Long(t)
	from, to := t.TempDir(), t.TempDir()
	const files = 2000
	for i := range files {
		put(t, filepath.Join(from, "top", fmt.Sprint(i%50), fmt.Sprint(i)), random(100))
	}
	for i := range 500 { // directories alone do not run ahead without end
		if err := os.MkdirAll(filepath.Join(from, "top", "dirs", fmt.Sprint(i)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(from, "top", "0", "0large"), random(3*block))
	if r := clean(t, from, "top", to, Options{}); r.Files != files+1 {
		t.Errorf("%+v", r)
	}
	if diff := cmp.Diff(listing(t, from), listing(t, to)); diff != "" {
		t.Errorf("(-sent +received):\n%.1000s", diff)
	}
}

func TestLinksAreLeftOutAndSaidSo(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "top/file"), []byte("x"))
	if err := os.Symlink("/etc/passwd", filepath.Join(from, "top/link")); err != nil {
		t.Skip(err)
	}
	r := clean(t, from, "top", to, Options{})
	if len(r.Left) != 1 || r.Left[0] != (Failure{apps.Bytes("top/link"), "a symbolic link"}) || r.Files != 1 {
		t.Errorf("%+v", r)
	}
}

func TestADirectoryIsLeftOutWithAllThatIsInIt(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "top/deep/file"), []byte("x"))
	x := send(t, from, "top", to, rooted.Name{}, Options{}, nil)
	want := Report{Failures: []Failure{{apps.Bytes("top"), "is a directory"}}}
	if diff := cmp.Diff(want, x.got); diff != "" || x.sendErr != nil || x.getErr != nil {
		t.Errorf("sender: %v; receiver: %v; (-want +got)\n%s", x.sendErr, x.getErr, diff)
	}
}

func TestWhatCannotBeReadIsAFailureAndTheRestArrives(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read everything")
	}
	from, to := t.TempDir(), t.TempDir()
	put(t, filepath.Join(from, "top/a"), []byte("x"))
	put(t, filepath.Join(from, "top/b"), []byte("x"))
	os.Chmod(filepath.Join(from, "top/a"), 0)
	x := over(t, from, "top", to, rooted.Name{}, Options{}, nil)
	if x.getErr != nil || x.got.Files != 1 || len(x.got.Failures) != 1 || !strings.Contains(x.got.Failures[0].Why, "permission denied") {
		t.Errorf("%+v", x)
	}
}
