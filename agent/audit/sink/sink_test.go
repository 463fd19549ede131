package sink

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/audit"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// newSinks makes Sinks of an endpoint with the key.
func newSinks(t *testing.T, key ed25519.PrivateKey, dir string) *Sinks {
	t.Helper()
	l := audit.New(audit.Config{Lines: 1000, Now: time.Now, Name: func(identity.ID) string { return "" },
		Self: func() (string, identity.ID) { return "srv-7", identity.IDOf(key.Public().(ed25519.PublicKey)) }})
	return New(Config{Audit: l, Key: key, Dir: dir, Name: "demo", Log: slog.New(slog.DiscardHandler)})
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func line(n int) audit.Line {
	return audit.Line{Event: audit.Refused, Result: audit.No, Reason: audit.Denied, User: "eve", Target: fmt.Sprint("t", n)}
}

// verify checks files as `ztm audit verify` does.
func verify(t *testing.T, files ...string) audit.Report {
	t.Helper()
	r, err := audit.Verify(files, func(name string) (io.ReadCloser, error) { return os.Open(name) })
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestAFileHasEveryLineOfEveryRunAndIsVerified(t *testing.T) {
	key, dir := newKey(t), filepath.Join(t.TempDir(), "audit")
	for range 3 {
		s := newSinks(t, key, dir)
		s.Use(Settings{File: File{On: true}})
		for n := range 10 {
			s.Audit.Add(line(n))
		}
		s.Close()
	}
	path := filepath.Join(dir, "demo.jsonl")
	if r := verify(t, path); r.Found != 0 || r.Lines != 30 || r.Runs != 3 || r.Signed != 30 {
		t.Errorf("%+v", r)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 && os.PathSeparator == '/' {
		t.Errorf("others may read it: %v %v", info.Mode(), err)
	}
}

func TestAFileThatIsFullIsReplacedAndOldOnesGo(t *testing.T) {
	s := newSinks(t, newKey(t), t.TempDir())
	w := &file{path: filepath.Join(s.Dir, "demo.jsonl"), size: 10_000, keep: 3}
	var all []audit.Entry
	s.Audit.Out(func(e audit.Entry) { all = append(all, e) })
	for n := range 200 {
		s.Audit.Add(line(n))
	}
	for batch := range slices.Chunk(all, 7) {
		if err := w.write(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(s.Dir, "*"))
	want := []string{w.path, w.path + ".1", w.path + ".2"}
	if !slices.Equal(names, want) {
		t.Errorf("files %q", names)
	}
	for _, name := range names {
		if info, err := os.Stat(name); err != nil || info.Size() > 10_000 {
			t.Errorf("%s: %v bytes", name, info.Size())
		}
	}
	if r := verify(t, want[2], want[1], want[0]); r.Found != 0 || r.Lines < 60 {
		t.Errorf("%+v", r)
	}
	if r := verify(t, want[0], want[1]); r.Found == 0 {
		t.Error("files in the wrong order are taken")
	}
}

// TestWhatWasChangedInAFileIsFound changes a file as somebody might who wants to hide something.
func TestWhatWasChangedInAFileIsFound(t *testing.T) {
	key, dir := newKey(t), t.TempDir()
	s := newSinks(t, key, dir)
	s.Use(Settings{File: File{On: true}})
	for n := range 5 {
		s.Audit.Add(line(n))
	}
	s.Audit.Checkpoint(key)
	for n := range 5 {
		s.Audit.Add(line(10 + n))
	}
	s.Close()
	good, err := os.ReadFile(filepath.Join(dir, "demo.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	rows := bytes.SplitAfter(bytes.TrimSuffix(good, []byte("\n")), []byte("\n"))
	rows[len(rows)-1] = append(rows[len(rows)-1], '\n')
	join := func(parts ...[][]byte) string { return string(bytes.Join(slices.Concat(parts...), nil)) }
	edit := func(old, new string) string { return strings.Replace(string(good), old, new, 1) }
	forged := newSinks(t, newKey(t), t.TempDir())
	forged.Use(Settings{File: File{On: true}})
	forged.Audit.Add(line(1))
	forged.Close()
	other, err := os.ReadFile(filepath.Join(forged.Dir, "demo.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, text string
		found      bool
	}{
		{"nothing", string(good), false},
		{"the beginning is in another file", join(rows[3:]), false},
		{"a name", edit(`"t3"`, `"t9"`), true},
		{"the last line before a checkpoint", edit(`"t4"`, `"t9"`), true},
		{"the very last line", edit(`"t14"`, `"t19"`), true},
		{"a field that nobody reads", edit(`"seq":3,`, `"seq":3,"x":1,`), true},
		{"a space", edit(`"seq":3,`, `"seq":3, `), true},
		{"a line is gone", join(rows[:2], rows[3:]), true},
		{"the line before a checkpoint is gone", join(rows[:4], rows[5:]), true},
		{"a line is there twice", join(rows[:3], rows[2:]), true},
		{"two lines are swapped", join(rows[:2], rows[3:4], rows[2:3], rows[4:]), true},
		{"words are put in", join(rows[:3], [][]byte{[]byte("hello\n")}, rows[3:]), true},
		{"the time of a checkpoint", edit(`"checkpoint":5,"hash":"`, `"checkpoint":5,"hash":"00`), true},
		{"another endpoint's lines", join(rows) + string(other), true},
		{"another endpoint's checkpoint", join(rows, [][]byte{bytes.SplitAfter(other, []byte("\n"))[1]}), true},
	} {
		path := filepath.Join(t.TempDir(), "x")
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := verify(t, path); (r.Found > 0) != test.found {
			t.Errorf("%s: %+v", test.name, r)
		}
	}
}

// slow is a place whose writes wait, or fail, as a test says.
type slow struct {
	mu    sync.Mutex
	fails int   // writes that fail before one succeeds
	never error // what they fail with, if not with a failure that may pass
	stuck chan struct{}
	got   []string
}

func (w *slow) gathers() time.Duration { return time.Second }
func (w *slow) close() error           { return nil }

func (w *slow) write(ctx context.Context, batch []audit.Entry) error {
	if w.stuck != nil {
		select {
		case <-w.stuck:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails > 0 {
		w.fails--
		if w.never != nil {
			return w.never
		}
		return errors.New("not now")
	}
	for _, e := range batch {
		if e.Line != nil {
			w.got = append(w.got, e.Line.Target)
		}
	}
	return nil
}

// place sends the lines of s to w as well.
func (s *Sinks) place(w writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.placeLocked("slow", true, func() writer { return w })
}

func TestAPlaceThatHangsCostsLinesThatAreCountedAndNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSinks(t, newKey(t), "")
		w := &slow{stuck: make(chan struct{})}
		s.place(w)
		began := time.Now()
		for n := range 2 * maxQueue {
			s.Audit.Add(line(n))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("lines waited %v", took)
		}
		<-time.After(90 * time.Second)
		lines, _ := s.Audit.Lines(audit.Filter{})
		i := slices.IndexFunc(lines, func(l audit.Line) bool { return l.Event == audit.Dropped })
		if i < 0 || lines[i].Target != "slow" || lines[i].Count < maxQueue/2 {
			t.Fatalf("no line says that some were dropped: %+v", lines[len(lines)-1])
		}
		close(w.stuck)
		s.Close()
		if want := 2*maxQueue - lines[i].Count; len(w.got) < want {
			t.Errorf("%d lines arrived of %d", len(w.got), want)
		}
	})
}

func TestAFailedWriteIsTriedAgainUnlessItIsNoUse(t *testing.T) {
	for _, never := range []error{nil, fmt.Errorf("%w: 404", errNever)} {
		synctest.Test(t, func(t *testing.T) {
			s := newSinks(t, newKey(t), "")
			w := &slow{fails: 5, never: never}
			if never != nil {
				w.fails = 1
			}
			s.place(w)
			s.Audit.Add(line(1))
			<-time.After(10 * time.Minute)
			s.Audit.Add(line(2))
			<-time.After(10 * time.Minute)
			s.Close()
			want := []string{"t1", "t2"}
			if never != nil {
				want = []string{"slow", "t2"} // that one was dropped, and what came after it
			}
			if !slices.Equal(w.got, want) {
				t.Errorf("got %q, want %q", w.got, want)
			}
		})
	}
}

func TestSilenceHasASignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSinks(t, newKey(t), "")
		s.place(&slow{})
		<-time.After(3*time.Hour + 10*time.Minute)
		lines, _ := s.Audit.Lines(audit.Filter{})
		s.Close()
		if len(lines) != 3 || lines[2].Event != audit.Alive {
			t.Errorf("in three hours: %+v", lines)
		}
	})
}

func TestWithoutAPlaceNothingRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSinks(t, newKey(t), "")
		s.place(&slow{})
		s.mu.Lock()
		s.placeLocked("slow", false, nil)
		s.mu.Unlock()
		s.Audit.Add(line(1))
		<-time.After(3 * time.Hour)
		if lines, _ := s.Audit.Lines(audit.Filter{}); len(lines) != 1 {
			t.Errorf("lines: %+v", lines)
		}
		s.Close()
		s.Use(Settings{File: File{On: true}}) // too late: a goroutine that begins now would be left
	})
}

func TestSettingsThatCannotBeAreRefused(t *testing.T) {
	for _, s := range []Settings{{File: File{Size: 1}}, {File: File{Size: 1 << 50}}, {File: File{Keep: -1}}, {File: File{Keep: 1e6}}} {
		if s.Check() == nil {
			t.Errorf("%+v is taken", s)
		}
	}
	if err := (Settings{File: File{On: true, Size: 1e6, Keep: 2}}).Check(); err != nil {
		t.Error(err)
	}
}

// FuzzVerify checks that whatever a file holds is read or refused, and that a report is bounded.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(`{"v":1,"seq":1}` + "\n"))
	f.Add([]byte(`{"checkpoint":1,"key":"AA==","sig":""}` + "\n\n\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := audit.Verify([]string{"x"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b)), nil })
		if err == nil && (len(r.Problems) > 100 || r.Signed > 0) {
			t.Errorf("%+v", r)
		}
	})
}

func TestSyslogGetsEachLineInItsForm(t *testing.T) {
	long := line(1)
	long.Target, long.Rule, long.App = strings.Repeat("ü", 100), strings.Repeat("ü", 200), strings.Repeat("ü", 100) // a peer may ask for such an app
	long.Flow = strings.Repeat("ü", 100)
	s := newSinks(t, newKey(t), "")
	var all []audit.Entry
	s.Audit.Out(func(e audit.Entry) { all = append(all, e) })
	s.Audit.Add(line(0))
	s.Audit.Add(audit.Line{Event: audit.Flow, Result: audit.OK, User: "ann"})
	s.Audit.Add(long)
	s.Audit.Checkpoint(s.Key)

	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	w, err := parseSyslog("udp://" + udp.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := w.write(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	w.close()
	buf := make([]byte, 4096)
	for i, want := range []string{`<108>1 TIME srv-7 ztm - refused - {"v":1,`, `<110>1 TIME srv-7 ztm - flow - {"v":1,`, `<108>1 TIME srv-7 ztm - refused - {"v":1,`, `<110>1 - - ztm - checkpoint - {"v":1,`} {
		n, _, err := udp.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if all[i].Line != nil {
			want = strings.Replace(want, "TIME", all[i].Line.Time, 1)
		}
		if got := string(buf[:n]); !strings.HasPrefix(got, want) || n > maxDatagram || !strings.HasSuffix(got, "}") {
			t.Errorf("message %d of %d bytes: %s", i, n, got)
		}
	}

	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	got := make(chan string, 1)
	go func() { // ends with the connection
		c, err := tcp.Accept()
		if err != nil {
			got <- err.Error()
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- string(b)
	}()
	if w, err = parseSyslog("tcp://" + tcp.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := w.write(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	w.close()
	rest := <-got
	for i := range all {
		size, after, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(size)
		if err != nil || n > len(after) || !strings.HasSuffix(after[:n], string(all[i].Text)) {
			t.Fatalf("message %d: %q of %s", i, size, rest)
		}
		rest = after[n:]
	}
	if rest != "" {
		t.Errorf("more than was sent: %q", rest)
	}
	for _, wrong := range []string{"", "log.example.com", "udp://h", "tcp://:1", "tcp://h:1/x", "unix://h/x", "unix://", "udp://u@h:1", "ftp://h:1"} {
		if _, err := parseSyslog(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

// failing is a connection whose write fails as the time for it ends.
type failing struct {
	net.Conn
	end context.CancelFunc
}

func (c failing) SetDeadline(time.Time) error { return nil }
func (c failing) Close() error                { return nil }
func (c failing) Write([]byte) (int, error) {
	c.end()
	return 0, io.ErrClosedPipe
}

func TestSyslogThatIsStartedAgainLosesNoLine(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	w, err := parseSyslog("tcp://" + tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	buf := make([]byte, 4096)
	for n := range 3 {
		if err := w.write(t.Context(), []audit.Entry{{Text: fmt.Appendf(nil, "{%d}", n)}}); err != nil {
			t.Fatal(err)
		}
		tcp.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
		c, err := tcp.Accept()
		if err != nil {
			t.Fatalf("line %d comes on no new connection: %v", n, err)
		}
		if got, err := c.Read(buf); err != nil || !strings.HasSuffix(string(buf[:got]), fmt.Sprintf("{%d}", n)) {
			t.Errorf("line %d: %q, %v", n, buf[:got], err)
		}
		c.Close()
		select {
		case <-w.ended:
		case <-time.After(10 * time.Second):
			t.Fatal("that the receiver has gone is not noticed")
		}
	}
}

func TestSyslogThatFailsAsItsTimeEndsIsAFailure(t *testing.T) {
	for range 5000 {
		ctx, end := context.WithCancel(t.Context())
		w := &syslog{network: "tcp", conn: failing{end: end}}
		if err := w.write(ctx, []audit.Entry{{Text: []byte("{}")}}); !errors.Is(err, io.ErrClosedPipe) {
			t.Fatal(err)
		}
	}
}

func TestAWebhookGetsLinesAndItsSecretIsShownToNobody(t *testing.T) {
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			got <- err.Error()
			return
		}
		b, _ := io.ReadAll(z)
		got <- string(b)
	}))
	defer server.Close()
	s := newSinks(t, newKey(t), t.TempDir())
	saved := 0
	ask := func(method, body string) (string, error) {
		w := httptest.NewRecorder()
		err := s.Serve(w, httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body)), func(Settings) error { saved++; return nil })
		return w.Body.String(), err
	}
	const secret = "sixteen bytes or more"
	for _, body := range []string{fmt.Sprintf(`{"webhook":%q,"secret":%q}`, server.URL, secret), fmt.Sprintf(`{"webhook":%q,"own":true}`, server.URL)} {
		if out, err := ask(http.MethodPost, body); err != nil || strings.Contains(out, secret) {
			t.Errorf("%s: %s %v", body, out, err)
		}
	}
	if out, err := ask(http.MethodGet, ""); err != nil || strings.Contains(out, secret) || s.Settings().Secret != secret || saved != 2 {
		t.Errorf("it shows %s, has %+v, saved %d: %v", out, s.Settings(), saved, err)
	}
	for _, body := range []string{`{"webhook":"http://siem.example.com/"}`, `{"webhook":"https://siem.example.com/"}`, `{"syslog":"x"}`, `{"file":{"size":1}}`, `{"other":1}`} {
		if _, err := ask(http.MethodPost, body); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%s: %v", body, err)
		}
	}
	s.Audit.Add(line(7))
	s.Close()
	if text := <-got; !strings.Contains(text, `"target":"t7"`) || !strings.Contains(text, `"checkpoint":1`) || !strings.HasSuffix(text, "}\n") {
		t.Errorf("the server got %s", text)
	}
}
