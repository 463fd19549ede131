package fetch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/wire"
	"ztm/tunnel/identity"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// holder is a source that has a file, or a part of it. What it does wrong is in alter.
type holder struct {
	id    identity.ID
	file  []byte
	c     blocks.Content
	list  blocks.List
	have  blocks.Bitmap
	alter func(r wire.Request, a wire.Answer, body []byte) (wire.Answer, []byte) // nil: honest

	mu    sync.Mutex
	asked map[uint32]int // blocks; guarded by mu
}

func newHolder(name string, file []byte) *holder {
	c, list, _ := blocks.Sum(bytes.NewReader(file), int64(len(file)))
	return &holder{id: identity.IDOf([]byte(name)), file: file, c: c, list: list,
		have: blocks.FullBitmap(blocks.Count(c.Size)), asked: map[uint32]int{}}
}

func (h *holder) body(r wire.Request) (wire.Answer, []byte) {
	if r.Content != h.c.Hash {
		return wire.Answer{Status: wire.NotFound}, nil
	}
	body := []byte(h.have)
	switch r.Op {
	case wire.List:
		body = h.list
	case wire.Block:
		h.mu.Lock()
		h.asked[r.N]++
		h.mu.Unlock()
		if !h.have.Has(int(r.N)) {
			return wire.Answer{Status: wire.NotFound}, nil
		}
		at, length := blocks.Bounds(h.c.Size, int(r.N))
		body = bytes.Clone(h.file[at : at+length])
	}
	return wire.Answer{Status: wire.OK, Length: int64(len(body))}, body
}

func (h *holder) serve(c net.Conn) {
	defer c.Close()
	for {
		r, err := wire.ReadRequest(c)
		if err != nil {
			return
		}
		a, body := h.body(r)
		if h.alter != nil {
			a, body = h.alter(r, a, body)
		}
		if _, err := c.Write(append(a.Append(nil), body...)); err != nil || a.Length > int64(len(body)) {
			return
		}
	}
}

// sources is a mesh of holders.
type sources struct {
	all     []*holder
	serving sync.WaitGroup
	down    map[identity.ID]bool
}

func (s *sources) open(_ context.Context, id identity.ID) (net.Conn, error) {
	for _, h := range s.all {
		if h.id == id && !s.down[id] {
			near, far, err := appstest.Pair("tcp")
			if err != nil {
				return nil, err
			}
			s.serving.Go(func() { h.serve(far) })
			return near, nil
		}
	}
	return nil, errors.New("not there")
}

func (s *sources) ids() (ids []identity.ID) {
	for _, h := range s.all {
		ids = append(ids, h.id)
	}
	return ids
}

// fetch fetches the file of the first holder from all of them.
func (s *sources) fetch(t *testing.T, w Want) ([]byte, error) {
	t.Helper()
	f := New(Config{Open: s.open})
	defer s.serving.Wait()
	defer f.Wait()
	if w.File == nil {
		w.File = temp(t)
	}
	if w.Content.Hash == (blocks.Hash{}) {
		w.Content = s.all[0].c
	}
	w.Sources = s.ids()
	_, err := f.Fetch(t.Context(), w)
	got, _ := io.ReadAll(io.NewSectionReader(w.File, 0, 1<<40))
	return got, err
}

func temp(t *testing.T) *os.File {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func bytesOf(size int) []byte {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(b)
	return b
}

func TestAFileComesFromAllThatHaveAPartOfIt(t *testing.T) {
	for _, size := range []int{0, 1, blocks.MinBlock, 40*blocks.MinBlock + 5} {
		file := bytesOf(size)
		a, b := newHolder("a", file), newHolder("b", file)
		s := &sources{all: []*holder{a, b}}
		for n := range blocks.Count(int64(size)) {
			if size > blocks.MinBlock {
				[]*holder{a, b}[n%2].have.Clear(n)
			}
		}
		got, err := s.fetch(t, Want{})
		if err != nil || !bytes.Equal(got, file) {
			t.Errorf("%d bytes: got %d, %v", size, len(got), err)
		}
		if size > blocks.MinBlock && (len(a.asked) == 0 || len(b.asked) == 0) {
			t.Errorf("%d and %d blocks were asked for", len(a.asked), len(b.asked))
		}
	}
}

func TestASourceThatLiesOrFailsLosesOnlyItself(t *testing.T) {
	for name, alter := range map[string]func(wire.Request, wire.Answer, []byte) (wire.Answer, []byte){
		"garbage": func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
			if r.Op == wire.Block {
				b[len(b)/2] ^= 1
			}
			return a, b
		},
		"too little": func(_ wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) { return a, b[:len(b)/2] },
		"too much": func(_ wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
			a.Length++
			return a, append(b, 0)
		},
		"a length beyond all": func(_ wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
			a.Length = 1<<32 - 1
			return a, b
		},
		"another list": func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
			if r.Op == wire.List {
				b = bytes.Repeat([]byte{7}, len(b))
			}
			return a, b
		},
		"a bitmap with more than all": func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
			if r.Op == wire.Have {
				b = bytes.Repeat([]byte{255}, len(b))
			}
			return a, b
		},
		"nothing": func(wire.Request, wire.Answer, []byte) (wire.Answer, []byte) { return wire.Answer{Length: 1}, nil },
		"it changed": func(wire.Request, wire.Answer, []byte) (wire.Answer, []byte) {
			return wire.Answer{Status: wire.Changed}, nil
		},
		"it is gone": func(wire.Request, wire.Answer, []byte) (wire.Answer, []byte) {
			return wire.Answer{Status: wire.NotFound}, nil
		},
		"an odd state": func(wire.Request, wire.Answer, []byte) (wire.Answer, []byte) { return wire.Answer{Status: 7}, nil },
	} {
		t.Run(name, func(t *testing.T) {
			file := bytesOf(21*blocks.MinBlock + 5)
			good, bad := newHolder("good", file), newHolder("bad", file)
			bad.alter = alter
			got, err := (&sources{all: []*holder{good, bad}}).fetch(t, Want{})
			if err != nil || !bytes.Equal(got, file) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
			for n, times := range bad.asked {
				if times > 1 {
					t.Errorf("block %d was asked for %d times", n, times)
				}
			}
			if _, err := (&sources{all: []*holder{bad}}).fetch(t, Want{Content: good.c}); !errors.Is(err, ErrNoSource) {
				t.Errorf("from that source alone: %v", err)
			}
		})
	}
}

func TestWhatCameBeforeAndWhatTheOldVersionHasIsNotFetchedAgain(t *testing.T) {
	file := bytesOf(20 * blocks.MinBlock)
	old := bytes.Clone(file)
	old[7*blocks.MinBlock] ^= 1
	h := newHolder("a", file)
	left := temp(t)
	left.WriteAt(file[:3*blocks.MinBlock+100], 0)
	got, err := (&sources{all: []*holder{h}}).fetch(t, Want{File: left, Left: 3*blocks.MinBlock + 100, Old: bytes.NewReader(old[:10*blocks.MinBlock]), OldSize: 10 * blocks.MinBlock})
	if err != nil || !bytes.Equal(got, file) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if len(h.asked) != 11 || h.asked[7] != 1 {
		t.Errorf("asked for %v", h.asked)
	}
}

func TestAListOrABlockThatIsNotWhatWasPublishedIsTakenFromNobody(t *testing.T) {
	for _, size := range []int{100, 5*blocks.MinBlock + 7} {
		file := bytesOf(size)
		for _, from := range []string{"a source", "an earlier attempt", "an old version"} {
			h := newHolder("a", file)
			h.c.Hash[0] ^= 1 // signed by a publisher that lies
			if size > blocks.MinBlock {
				h.c.Hash = h.list.Content(h.c.Size - 1).Hash // or says another size
			}
			w := Want{Content: h.c, File: temp(t)}
			switch from {
			case "an earlier attempt":
				w.File.WriteAt(file, 0)
				w.Left = int64(len(file))
			case "an old version":
				w.Old, w.OldSize = bytes.NewReader(file), int64(len(file))
			}
			if _, err := (&sources{all: []*holder{h}}).fetch(t, w); !errors.Is(err, ErrNoSource) {
				t.Errorf("%d bytes from %s: %v", size, from, err)
			}
			if size > blocks.MinBlock && len(h.asked) > 0 {
				t.Errorf("from %s: asked for %v", from, h.asked)
			}
		}
	}
}

func TestWhatComesForOneFileIsGivenToNobodyForAnotherOneWithItsHash(t *testing.T) {
	h := newHolder("a", bytesOf(3*blocks.MinBlock))
	end := make(chan struct{})
	f := New(Config{Open: func(context.Context, identity.ID) (net.Conn, error) {
		<-end
		return nil, errors.New("gone")
	}})
	var fetching sync.WaitGroup
	fetching.Go(func() {
		f.Fetch(t.Context(), Want{Name: "secret", Content: h.c, List: h.list, File: temp(t), Sources: []identity.ID{h.id}})
	})
	is := func(want string) bool {
		_, have, _, _ := f.Serve(h.c.Hash, func(name string) bool { return name == want })
		return have != nil
	}
	appstest.Eventually(t, "it is being fetched", func() bool { return is("secret") })
	if is("own") {
		t.Error("it is given for another file")
	}
	close(end)
	fetching.Wait()
	f.Wait()
}

func TestAnAttemptLeavesWhatHasComeToTheNext(t *testing.T) {
	file := bytesOf(30 * blocks.MinBlock)
	h := newHolder("a", file)
	n := 0
	h.alter = func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
		if n++; n > 12 {
			return a, b[:1]
		}
		return a, b
	}
	f := temp(t)
	_, err := (&sources{all: []*holder{h}}).fetch(t, Want{File: f})
	if !errors.Is(err, ErrNoSource) {
		t.Fatal(err)
	}
	h.alter, h.asked = nil, map[uint32]int{}
	st, _ := f.Stat()
	got, err := (&sources{all: []*holder{h}}).fetch(t, Want{File: f, Left: st.Size()})
	if err != nil || !bytes.Equal(got, file) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
	if len(h.asked) == 0 || len(h.asked) == 30 { // those that were on their way at the end are lost
		t.Errorf("%d of 30 blocks were asked for again", len(h.asked))
	}
}

// full is a disk with room for so many bytes.
type full struct {
	*os.File
	room int
}

var errFull = errors.New("no space left on device")

func (f *full) WriteAt(p []byte, at int64) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return f.File.WriteAt(p, at)
}

func TestAFullDiskEndsTheJobAndBlamesNoSource(t *testing.T) {
	file := bytesOf(10 * blocks.MinBlock)
	for room := 0; room < len(file); room += blocks.MinBlock / 2 {
		h := newHolder("a", file)
		if _, err := (&sources{all: []*holder{h}}).fetch(t, Want{File: &full{temp(t), room}}); !errors.Is(err, errFull) {
			t.Fatalf("with room for %d bytes: %v", room, err)
		}
	}
}

func TestAFetchThatIsGivenUpEnds(t *testing.T) {
	h := newHolder("a", bytesOf(5*blocks.MinBlock))
	stop := make(chan struct{})
	h.alter = func(r wire.Request, a wire.Answer, b []byte) (wire.Answer, []byte) {
		if r.Op == wire.Block {
			<-stop
		}
		return a, b
	}
	s := &sources{all: []*holder{h}}
	f := New(Config{Open: s.open})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.Fetch(ctx, Want{Content: h.c, File: temp(t), Sources: s.ids(), Progress: func(p Progress) {
		if p.Step == Waiting {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(stop)
	f.Wait()
	s.serving.Wait()
}

func TestASourceOfAByteAMinuteIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := bytesOf(blocks.MinBlock)
		c, _, _ := blocks.Sum(bytes.NewReader(file), int64(len(file)))
		var serving sync.WaitGroup
		defer serving.Wait()
		f := New(Config{Open: func(context.Context, identity.ID) (net.Conn, error) {
			near, far := net.Pipe()
			serving.Go(func() {
				defer far.Close()
				wire.ReadRequest(far)
				far.Write(wire.Answer{Status: wire.OK, Length: blocks.MinBlock}.Append(nil))
				for i := range file {
					<-time.After(time.Minute)
					if _, err := far.Write(file[i : i+1]); err != nil {
						return
					}
				}
			})
			return near, nil
		}})
		began := time.Now()
		_, err := f.Fetch(t.Context(), Want{Content: c, File: &memory{}, Sources: []identity.ID{"x"}})
		if took := time.Since(began); !errors.Is(err, ErrNoSource) || took > 2*time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		f.Wait()
	})
}

// memory is a file that nobody looks at.
type memory struct{}

func (*memory) ReadAt([]byte, int64) (int, error)      { return 0, io.EOF }
func (*memory) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (*memory) Truncate(int64) error                   { return nil }

func TestASourceThatDoesNotEndTheFlowIsNotWaitedForForever(t *testing.T) {
	h := newHolder("a", bytesOf(blocks.MinBlock))
	var serving sync.WaitGroup
	over := make(chan struct{})
	f := New(Config{Stall: 100 * time.Millisecond, Open: func(context.Context, identity.ID) (net.Conn, error) {
		near, far, err := appstest.Pair("tcp")
		if err != nil {
			return nil, err
		}
		serving.Go(func() { h.serve(unended{far, over}) })
		return near, nil
	}})
	if _, err := f.Fetch(t.Context(), Want{Content: h.c, File: temp(t), Sources: []identity.ID{h.id}}); err != nil {
		t.Error(err)
	}
	f.Wait()
	close(over)
	serving.Wait()
}

// unended is a flow that is closed when the test is over.
type unended struct {
	net.Conn
	over chan struct{}
}

func (c unended) Close() error {
	<-c.over
	return c.Conn.Close()
}
