package limit

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectionsShareAPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		p.Set(1 << 20)
		began := time.Now()
		done := make(chan int64)
		for range 2 {
			here, there := net.Pipe()
			defer here.Close()
			go func() {
				p.Conn(there).Write(make([]byte, 5<<20))
				there.Close()
			}()
			go func() {
				n, _ := io.Copy(io.Discard, here)
				done <- n
			}()
		}
		if a, b := <-done, <-done; a+b != 10<<20 {
			t.Errorf("%d and %d bytes came", a, b)
		}
		if d := time.Since(began).Round(100 * time.Millisecond); d < 9900*time.Millisecond || d > 10100*time.Millisecond {
			t.Errorf("10 MiB at 1 MiB/s took %v", d)
		}
	})
}

func TestAPaceOfReadersIsThatOfWriters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		p.Set(1000)
		here, there := net.Pipe()
		go func() {
			there.Write(make([]byte, 3000))
			there.Close()
		}()
		began := time.Now()
		if n, err := io.Copy(io.Discard, p.Conn(here)); n != 3000 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if d := time.Since(began); d < 2990*time.Millisecond || d > 3010*time.Millisecond {
			t.Errorf("3000 bytes at 1000 a second took %v", d)
		}
	})
}

func TestNoPaceIsNoLimitAndClosingEndsAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		here, there := net.Pipe()
		go io.Copy(io.Discard, here)
		c := p.Conn(there)
		began := time.Now()
		if n, err := c.Write(make([]byte, 1<<20)); n != 1<<20 || err != nil || time.Since(began) != 0 {
			t.Errorf("without a limit: %d, %v, after %v", n, err, time.Since(began))
		}
		p.Set(1)
		go func() {
			synctest.Wait()
			c.Close()
		}()
		if _, err := c.Write(make([]byte, 10000)); err == nil || time.Since(began) != 0 {
			t.Errorf("after it was closed: %v, %v", err, time.Since(began))
		}
		here.Close()
	})
}
