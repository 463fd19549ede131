package transfer

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ztm/apps"
)

// dam is a flow whose writes wait until it is opened.
type dam struct {
	net.Conn
	open chan struct{}
	wide int // bytes of the longest write
}

func (d *dam) Write(p []byte) (int, error) {
	<-d.open
	d.wide = max(d.wide, len(p))
	return len(p), nil
}

func TestASenderReadsAheadOfASlowReceiverAndNoFurtherThanItsBuffers(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "f"), random(8*block))
	f, err := os.Open(filepath.Join(dir, "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		d := &dam{Conn: near, open: make(chan struct{})}
		s := &sender{link: newLink(d, fromTaker, 0), meter: &Meter{}}
		c := &reading{sender: s, item: item{file: f, seen: info, entry: entry{Size: info.Size()}}, hash: sha256.New()}
		done := make(chan error)
		go func() { done <- c.run() }()
		synctest.Wait()
		if n := s.meter.Bytes.Load(); n != int64(buffers*piece()) {
			t.Errorf("it has read %d bytes while the first ones are not sent, want %d", n, buffers*piece())
		}
		close(d.open)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.link.close(nil); err != nil || d.wide < piece() || d.wide > lead+header+piece() {
			t.Errorf("the longest write has %d bytes, %v", d.wide, err)
		}
	})
}

func TestFramesAreWrittenInTheirOrder(t *testing.T) {
	var out bytes.Buffer
	c := newCoalescer(&out)
	var want []byte
	for i := range 200 {
		small := bytes.Repeat([]byte{byte(i)}, 1+i*i%(2*lead))
		c.append(small)
		want = append(want, small...)
		if i%3 == 0 {
			b := append(c.room(i), bytes.Repeat([]byte{0xff}, i)...)
			c.put(b, head(kindData, i))
			h := head(kindData, i)
			want = append(append(want, h[:]...), b[len(b)-i:]...)
		}
	}
	if err := c.drain(); err != nil || !bytes.Equal(out.Bytes(), want) {
		t.Errorf("%d bytes were written, want %d; %v", out.Len(), len(want), err)
	}
	c.close()
}

func TestContentInOneLongFrameIsTaken(t *testing.T) {
	content := random(block)
	sum := sha256.Sum256(content)
	to := t.TempDir()
	s := script{announce(entry{Name: apps.Bytes("x"), Type: typeFile, Size: block, Mode: 0o644}), frame{kindData, content}, frame{kindSum, sum[:]}, frame{kindDone, nil}}
	if r, err := play(t, s, to, Options{}); err != nil || r.Files != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if b, err := os.ReadFile(filepath.Join(to, "x")); err != nil || !bytes.Equal(b, content) {
		t.Errorf("it has become %d other bytes, %v", len(b), err)
	}
}

// slowFile is a file that takes its time, and does not take what begins at one offset.
type slowFile struct {
	open    chan struct{}
	bad     int64
	written atomic.Int64
}

var errBad = errors.New("bad")

func (s *slowFile) WriteAt(p []byte, at int64) (int, error) {
	<-s.open
	if at == s.bad {
		return 0, errBad
	}
	s.written.Add(int64(len(p)))
	return len(p), nil
}

func TestWhatComesIsTakenWhileTheDiskIsAtThePartBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b behind
		defer b.close()
		f := &slowFile{open: make(chan struct{}), bad: -1}
		var taken atomic.Int64
		go func() {
			buf := make([]byte, 10)
			for at := int64(0); at < 100; at += 10 {
				var err error
				if buf, err = b.write(f, append(buf[:0], "0123456789"...), at); err != nil {
					t.Error(err)
				}
				taken.Add(10)
			}
		}()
		synctest.Wait()
		if n := taken.Load(); n < 10 || n > 10*(waiting+1) {
			t.Errorf("%d bytes were taken before the disk has the first one", n)
		}
		close(f.open)
		synctest.Wait()
		if err := b.wait(); err != nil || f.written.Load() != 100 {
			t.Errorf("%d bytes were written, %v", f.written.Load(), err)
		}
	})
}

func TestADiskThatFailsIsSaidSoOnceAndWritesNothingBehind(t *testing.T) {
	var b behind
	defer b.close()
	f := &slowFile{open: make(chan struct{}), bad: 20}
	close(f.open)
	for at := int64(0); at < 100; at += 10 {
		b.write(f, make([]byte, 10), at)
	}
	if err := b.wait(); err != errBad || f.written.Load() != 20 {
		t.Errorf("%d bytes were written, %v", f.written.Load(), err)
	}
	if err := b.wait(); err != nil {
		t.Errorf("and once more: %v", err)
	}
}
