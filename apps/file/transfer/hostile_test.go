package transfer

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"hash/crc32"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/rooted"
	"ztm/tunnel/answer"
)

// script is what a hostile side sends: frames, or bytes as they are.
type script []any

type frame struct {
	kind    kind
	payload []byte
}

func announce(e entry) frame {
	b, _ := json.Marshal(e)
	return frame{kindEntry, b}
}

// sumOf is the sum of a block.
func sumOf(content []byte) frame {
	return frame{kindSum, binary.BigEndian.AppendUint32(nil, crc32.Checksum(content, castagnoli))}
}

func num(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (s script) bytes() (all []byte) {
	for _, part := range s {
		switch p := part.(type) {
		case []byte:
			all = append(all, p...)
		case frame:
			all = binary.BigEndian.AppendUint32(all, uint32(p.kind)<<24|uint32(len(p.payload)))
			all = append(all, p.payload...)
		}
	}
	return all
}

// play sends a script to a receiver, and returns what it has made of it.
func play(t *testing.T, s script, to string, o Options) (Report, error) {
	t.Helper()
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	go func() {
		near.Write(s.bytes())
		near.(interface{ CloseWrite() error }).CloseWrite()
	}()
	return Receive(far, Target{Dir: open(t, to)}, o)
}

func TestAHostileSenderMakesNothingButItsOwnFiles(t *testing.T) {
	file := func(name string, size int64) frame {
		return announce(entry{Name: apps.Bytes(name), Type: typeFile, Size: size, Mode: 0o644})
	}
	dir := announce(entry{Name: "d", Type: typeDir, Mode: 0o755})
	for _, tt := range []struct {
		name string
		s    script
	}{
		{"a name that leads up", script{file("..", 1)}},
		{"a path for a name", script{file("../x", 1)}},
		{"an absolute one", script{file("/etc/x", 1)}},
		{"a directory that leads up", script{announce(entry{Name: "..", Type: typeDir})}},
		{"no name", script{file("", 1)}},
		{"a zero byte", script{file("a\x00b", 1)}},
		{"one of our names", script{file(".ztm-x.part", 1)}},
		{"a depth below zero", script{announce(entry{Depth: -1, Name: "x", Type: typeFile})}},
		{"a depth that was not announced", script{dir, announce(entry{Depth: 2, Name: "x", Type: typeFile})}},
		{"a size below zero", script{file("x", -1)}},
		{"a size beyond all", script{file("x", 1<<62)}},
		{"setuid", script{announce(entry{Name: "x", Type: typeFile, Mode: 0o4755})}},
		{"a link", script{announce(entry{Name: "x", Type: "l"})}},
		{"content of no file", script{frame{kindData, []byte("x")}}},
		{"more content than announced", script{file("x", 1), frame{kindData, []byte("xx")}}},
		{"content without an end", script{file("x", 1<<20), frame{kindData, make([]byte, chunk)}}},
		{"data that is too long", script{file("x", 1<<20), frame{kindData, make([]byte, chunk+1)}}},
		{"a wrong sum", script{file("x", 1), frame{kindData, []byte("x")}, frame{kindSum, make([]byte, sumSize)}}},
		{"a sum too early", script{file("x", 2), frame{kindData, []byte("x")}, frame{kindSum, make([]byte, sumSize)}}},
		{"a wrong sum of nothing", script{file("x", 0), sumOf([]byte("x"))}},
		{"a block of which one bit is another one", script{file("x", 5), frame{kindData, []byte("hellp")}, sumOf([]byte("hello"))}},
		{"content before its beginning", script{file("x", 3*block), frame{kindData, []byte("x")}}},
		{"a beginning behind what is here", script{file("x", 3*block), frame{kindFrom, num(2 * block)}}},
		{"a beginning behind the end", script{file("x", 3*block), frame{kindFrom, num(4 * block)}}},
		{"a beginning below zero", script{file("x", 3*block), frame{kindFrom, num(1 << 63)}}},
		{"a hole that is too large", script{file("x", 5), frame{kindHole, []byte{255, 255, 255, 255}}}},
		{"zeros below zero", script{file("x", 5), frame{kindZeros, num(1 << 63)}}},
		{"zeros within a block", script{file("x", 3*block), frame{kindFrom, num(0)}, frame{kindData, []byte("x")}, frame{kindZeros, num(block)}}},
		{"the end in the middle", script{file("x", 5), frame{kindDone, nil}}},
		{"nothing", script{}},
		{"no frame", script{[]byte{1, 0}}},
		{"an unknown frame", script{[]byte{0x20, 0, 0, 0}}},
		{"a frame of a receiver", script{frame{kindFinal, []byte("{}")}}},
		{"a frame that is too long", script{[]byte{byte(kindEntry), 0xff, 0xff, 0xff}}},
		{"an entry that is no JSON", script{frame{kindEntry, []byte("{]")}}},
		{"an abort without a reason", script{frame{kindAbort, []byte("{}")}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			top := t.TempDir()
			to := filepath.Join(top, "to")
			if err := os.Mkdir(to, 0o755); err != nil {
				t.Fatal(err)
			}
			if r, err := play(t, tt.s, to, Options{}); err == nil || r.Files > 0 {
				t.Errorf("it was taken: %+v, %v", r, err)
			}
			if l, err := os.ReadDir(top); err != nil || len(l) != 1 {
				t.Errorf("there is %v, %v", l, err)
			}
			if l, err := os.ReadDir(to); err != nil || len(l) > 0 && (len(l) != 1 || l[0].Name() != "d") {
				t.Errorf("in the target there is %v, %v", l, err)
			}
		})
	}
}

func TestWhatAnEarlierCopyHasLeftOutlivesOneThatEndsBeforeItsTurn(t *testing.T) {
	file := func(name string) frame {
		return announce(entry{Name: apps.Bytes(name), Type: typeFile, Size: 2 * block, Mode: 0o644})
	}
	part := make([]byte, block)
	var content script
	for p := range slices.Chunk(part, chunk) {
		content = append(content, frame{kindData, p})
	}
	content = append(content, sumOf(part))
	to := t.TempDir()
	begun := append(script{file("x"), frame{kindFrom, num(0)}}, content...)
	if r, err := play(t, begun, to, Options{}); err == nil {
		t.Fatalf("nothing was interrupted: %+v", r)
	}
	for name, s := range map[string]script{"its turn has come": {file("x")}, "others are before it": {file("a"), file("x"), file("z")}} {
		if r, err := play(t, s, to, Options{}); err == nil {
			t.Fatalf("nothing was interrupted: %+v", r)
		}
		left, err := os.ReadDir(to)
		if err != nil || len(left) != 1 {
			t.Errorf("%s: there is %v, %v", name, left, err)
		}
	}
	rest := append(script{file("x"), frame{kindFrom, num(block)}}, content...)
	if r, err := play(t, append(rest, frame{kindDone, nil}), to, Options{}); err != nil || r.Files != 1 || r.Resumed != block {
		t.Errorf("it does not go on where it was: %+v, %v", r, err)
	}
}

// TestEntriesWithoutEndAreCut holds that what is announced ahead is bounded.
func TestEntriesWithoutEndAreCut(t *testing.T) {
	s := script{announce(entry{Name: "first", Type: typeFile, Size: 5})}
	for range 10000 {
		s = append(s, announce(entry{Name: "x", Type: typeFile, Size: 5}))
	}
	if r, err := play(t, s, t.TempDir(), Options{}); answer.CodeOf(err) != answer.BadRequest {
		t.Errorf("%+v, %v", r, err)
	}
	s = nil
	for i := range 1000 {
		s = append(s, announce(entry{Depth: i, Name: "d", Type: typeDir, Mode: 0o755}))
	}
	if r, err := play(t, s, t.TempDir(), Options{}); answer.CodeOf(err) != answer.BadRequest {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestAHostileReceiverGetsNothingButTheFile(t *testing.T) {
	from := t.TempDir()
	put(t, filepath.Join(from, "f"), random(3*block))
	id := []byte{0, 0, 0, 0}
	for _, tt := range []struct {
		name string
		s    script
	}{
		{"an answer to what was not said", script{frame{kindSkip, []byte{0, 0, 0, 9}}}},
		{"hashes of no size", script{frame{kindWant, append(append([]byte{}, id...), 0, 0, 0, 1, 0, 1, 2, 3)}}},
		{"groups of no blocks", script{frame{kindWant, append(append([]byte{}, id...), make([]byte, 5+hashSize)...)}}},
		{"two answers", script{frame{kindSkip, id}, frame{kindSkip, id}}},
		{"a report that is none", script{frame{kindFinal, []byte("[]")}}},
		{"a frame of a sender", script{frame{kindDone, nil}}},
		{"a frame that is too long", script{[]byte{byte(kindWant), 0xff, 0xff, 0xff}}},
		{"nothing", script{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			near, far, err := appstest.Pair("tcp")
			if err != nil {
				t.Fatal(err)
			}
			defer far.Close()
			go func() { // answers once the first frame has come
				var h [1]byte
				far.Read(h[:])
				far.Write(tt.s.bytes())
				far.(interface{ CloseWrite() error }).CloseWrite()
				buf := make([]byte, chunk)
				for err == nil {
					_, err = far.Read(buf)
				}
			}()
			if r, err := Send(near, []Source{{open(t, from), named(t, "f")}}, Options{}); err == nil {
				t.Errorf("it was done: %+v", r)
			}
		})
	}
}

func TestSumsOfAReceiverThatLiesAreNoMoreThanSums(t *testing.T) {
	f, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &sender{meter: &Meter{}}
	c := &reading{sender: s, item: item{file: f, entry: entry{Size: 3 * block}}}
	for _, r := range []*reply{{group: 1<<32 - 1, hashes: make([]byte, maxGroups*hashSize)}, {group: 1, hashes: make([]byte, maxGroups*hashSize)}, {}} {
		if at, err := c.agree(r); at != 0 || err != nil {
			t.Errorf("it agrees up to %d, %v", at, err)
		}
	}
}

// still is a connection on which nothing comes, and nothing goes.
type still struct {
	net.Conn
	ended chan struct{}
}

func (s still) Read([]byte) (int, error)    { <-s.ended; return 0, net.ErrClosed }
func (s still) Write(p []byte) (int, error) { <-s.ended; return 0, net.ErrClosed }
func (s still) Reset() error                { return s.Close() }
func (s still) Close() error {
	select {
	case <-s.ended:
	default:
		close(s.ended)
	}
	return nil
}

func TestASideThatIsSilentIsNotWaitedForForever(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "f"), random(10))
	d := open(t, dir)
	n := named(t, "f")
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		_, err := Receive(still{ended: make(chan struct{})}, Target{Dir: d}, Options{})
		if answer.CodeOf(err) != answer.Timeout || time.Since(begin) != IdleTimeout {
			t.Errorf("the receiver: %v after %v", err, time.Since(begin))
		}
		begin = time.Now()
		_, err = Send(still{ended: make(chan struct{})}, []Source{{d, n}}, Options{})
		if answer.CodeOf(err) != answer.Timeout || time.Since(begin) != IdleTimeout {
			t.Errorf("the sender: %v after %v", err, time.Since(begin))
		}
	})
}

// slow is a connection on which one KiB comes in each second.
type slow struct {
	still
	content *bytes.Reader
}

func (s slow) Write(p []byte) (int, error) { return len(p), nil }

func (s slow) Read(p []byte) (int, error) {
	select {
	case <-s.ended:
		return 0, net.ErrClosed
	case <-time.After(time.Second):
		return s.content.Read(p[:min(len(p), 1<<10)])
	}
}

func TestASlowSideIsNotASilentOne(t *testing.T) {
	content := make([]byte, chunk)
	s := script{announce(entry{Name: "x", Type: typeFile, Size: chunk, Mode: 0o644}), frame{kindData, content}, sumOf(content), frame{kindDone, nil}}
	d := open(t, t.TempDir())
	synctest.Test(t, func(t *testing.T) {
		r, err := Receive(slow{still{ended: make(chan struct{})}, bytes.NewReader(s.bytes())}, Target{Dir: d}, Options{})
		if err != nil || r.Files != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

// leaving is the connection to a receiver that has given up: nothing can be written any more, and its
// reason is on the way.
type leaving struct {
	still
	reason io.Reader
}

func (leaving) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func (l leaving) Read(p []byte) (int, error) {
	select {
	case <-l.ended:
		return 0, net.ErrClosed
	case <-time.After(time.Second):
		return l.reason.Read(p)
	}
}

// TestTheReasonOfAReceiverThatGaveUpIsWaitedFor: the last of what the sender says fails first.
func TestTheReasonOfAReceiverThatGaveUpIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "f"), random(10))
	d, n := open(t, dir), named(t, "f")
	reason, _ := json.Marshal(answer.Errorf(answer.Limit, "no space left"))
	synctest.Test(t, func(t *testing.T) {
		far := leaving{still{ended: make(chan struct{})}, bytes.NewReader(script{frame{kindAbort, reason}}.bytes())}
		if _, err := Send(far, []Source{{d, n}}, Options{}); answer.CodeOf(err) != answer.Limit {
			t.Errorf("the sender: %v", err)
		}
	})
}

func TestWhatASideSaysCannotMoveTheCursor(t *testing.T) {
	s := script{announce(entry{Name: "x", Type: typeFile, Size: 5}), frame{kindFailed, []byte("no\x1b[2J\n")}, frame{kindDone, nil}}
	r, err := play(t, s, t.TempDir(), Options{})
	if err != nil || len(r.Failures) != 1 || strings.ContainsAny(r.Failures[0].Why, "\x1b\n") {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestNoMemoryIsMadeForWhatIsOnlySaid holds that a length alone costs nothing.
func TestNoMemoryIsMadeForWhatIsOnlySaid(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := script{announce(entry{Name: "x", Type: typeFile, Size: MaxFile, Sparse: true}), frame{kindFrom, num(0)}, frame{kindZeros, num(MaxFile / 2)}}
	if _, err := play(t, s, t.TempDir(), Options{}); err == nil {
		t.Error("a half file was taken")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
}

// FuzzReceive: whatever a sender sends, a receiver comes to an end and writes below its directory
// alone.
// recorded is a flow of which the one direction is known, and the other is heard by nobody.
type recorded struct {
	net.Conn // nil
	io.Reader
}

func (c recorded) Read(p []byte) (int, error)  { return c.Reader.Read(p) }
func (c recorded) Write(p []byte) (int, error) { return len(p), nil }
func (c recorded) Close() error                { return nil }

func FuzzReceive(f *testing.F) {
	x := announce(entry{Name: "x", Type: typeFile, Size: 5})
	f.Add(script{x, frame{kindData, []byte("hello")}, sumOf([]byte("hello")), frame{kindDone, nil}}.bytes())
	f.Add(script{announce(entry{Name: "d", Type: typeDir}), announce(entry{Depth: 1, Name: "x", Type: typeFile, Size: 3 * block}), frame{kindFrom, num(0)},
		frame{kindZeros, num(block)}, frame{kindHole, []byte{0, 0, 1, 0}}}.bytes())
	f.Add(script{announce(entry{Name: "l", Type: typeLeft, Why: "a symbolic link"}), frame{kindTotal, make([]byte, 16)}, frame{kindFailed, nil}}.bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		to := filepath.Join(top, "to")
		if err := os.Mkdir(to, 0o755); err != nil {
			t.Fatal(err)
		}
		d, err := rooted.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		Receive(recorded{Reader: bytes.NewReader(b)}, Target{Dir: d}, Options{volatile: true})
		if l, err := os.ReadDir(top); err != nil || len(l) != 1 {
			t.Errorf("there is %v, %v", l, err)
		}
	})
}

func TestANameThatIsTakenMeanwhileIsNotReplaced(t *testing.T) {
	s := script{}
	for range 2 {
		s = append(s, announce(entry{Name: "x", Type: typeFile, Size: 5, Mode: 0o644}))
	}
	for _, text := range []string{"first", "other"} {
		s = append(s, frame{kindData, []byte(text)}, sumOf([]byte(text)))
	}
	to := t.TempDir()
	r, err := play(t, append(s, frame{kindDone, nil}), to, Options{Keep: true})
	if err != nil || r.Files != 1 || len(r.Failures) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "x")); string(b) != "first" {
		t.Errorf("it is %q, %v", b, err)
	}
}
