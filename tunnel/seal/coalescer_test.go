package seal

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// slow is a connection whose Write waits for a reader of the channel, or for Close.
type slow struct {
	net.Conn
	writes chan string
	closed chan struct{}
	err    error
}

func newSlow() *slow { return &slow{writes: make(chan string), closed: make(chan struct{})} }

func (s *slow) Write(p []byte) (int, error) {
	select {
	case s.writes <- string(p):
		return len(p), s.err
	case <-s.closed:
		return 0, net.ErrClosed
	}
}

func (s *slow) Close() error {
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	return nil
}

func TestWhatIsWrittenWhileAWriteLastsIsSentAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlow()
		o := newCoalescer(c, c)
		io.WriteString(o, "one")
		synctest.Wait() // it is being sent
		for _, s := range []string{"two", "three", "four"} {
			io.WriteString(o, s)
		}
		if diff := cmp.Diff([]string{"one", "twothreefour"}, []string{<-c.writes, <-c.writes}); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if _, err := io.WriteString(o, "five"); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestACoalescerThatIsFullMakesItsWriterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlow()
		o := newCoalescer(c, c)
		taken := 0
		ended := make(chan error)
		go func() {
			for {
				n, err := io.WriteString(o, strings.Repeat("x", 1000))
				if err != nil {
					ended <- err
					return
				}
				taken += n
			}
		}()
		synctest.Wait()
		if taken > 2*mostPending {
			t.Errorf("%d bytes were taken and nobody read", taken)
		}
		if err := o.Close(); err != nil { // after a second, for nobody reads
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("the writer was not told")
		}
	})
}

func TestAFailureToSendEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSlow()
		c.err = io.ErrShortWrite
		o := newCoalescer(c, c)
		io.WriteString(o, "one")
		<-c.writes
		<-c.closed
		synctest.Wait()
		if _, err := io.WriteString(o, "two"); !errors.Is(err, io.ErrShortWrite) {
			t.Errorf("the next write: %v", err)
		}
		o.Close()
	})
}
