package tunnel

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestParseRate(t *testing.T) {
	tests := []struct {
		in   string
		want Rate
		text string
	}{
		{"10MB/s", 10e6, "10MB/s"}, {"10MB", 10e6, "10MB/s"}, {"1.5GB/s", 15e8, "1.5GB/s"}, {"512KiB/s", 512 << 10, "524.288kB/s"},
		{"8Mbit/s", 1e6, "1MB/s"}, {"1234567", 1234567, "1234.567kB/s"}, {"1234567891", 1234567891, "1234567.891kB/s"},
		{"0", 0, "0B/s"}, {"1000B/s", 1000, "1kB/s"},
	}
	for _, test := range tests {
		if r, err := ParseRate(test.in); r != test.want || err != nil || r.String() != test.text {
			t.Errorf("%q became %d (%s), %v; want %d (%s)", test.in, r, r, err, test.want, test.text)
		}
	}
	for _, in := range []string{"", "fast", "-1MB", "10", "999B/s", "1e300GB", "NaN", "Inf", "0x10MB", "10MB/h", "10 MB/s"} {
		if r, err := ParseRate(in); err == nil {
			t.Errorf("%q became %d", in, r)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"10MB/s", "0", "1.25Mbit/s", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRate(s)
		if err != nil {
			return
		}
		if again, err := ParseRate(r.String()); again != r || err != nil {
			t.Errorf("%q is %d, and %q is %d, %v", s, r, r, again, err)
		}
	})
}

// between fails the test unless a duration is in a range. The clock is that of a synctest bubble.
func between(t *testing.T, d, low, high time.Duration) {
	t.Helper()
	if d < low || d > high {
		t.Errorf("it took %v, want %v to %v", d, low, high)
	}
}

func TestBucketKeepsItsRateForAllFlowsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		b.set(1e6)
		begin := time.Now()
		var flows sync.WaitGroup
		for range 10 {
			flows.Go(func() {
				for range 100 {
					b.pass(10_000, nil)
				}
			})
		}
		flows.Wait() // 10 MB
		between(t, time.Since(begin), 9900*time.Millisecond, 10100*time.Millisecond)

		<-time.After(time.Hour) // what was not used is not saved up
		begin = time.Now()
		for range 100 {
			b.pass(10_000, nil)
		}
		between(t, time.Since(begin), 900*time.Millisecond, 1010*time.Millisecond)
	})
}

func TestBucketServesInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		b.set(1e6)
		var mu sync.Mutex
		var order []int
		var flows sync.WaitGroup
		for i := range 5 {
			flows.Go(func() {
				b.pass(1e6, nil)
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait()
		}
		flows.Wait()
		if fmt.Sprint(order) != "[0 1 2 3 4]" {
			t.Errorf("served in the order %v", order)
		}
	})
}

func TestBucketChangesItsRateForThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bucket
		b.set(1000)
		var waiting sync.WaitGroup
		begin := time.Now()
		waiting.Go(func() { b.pass(1e6, nil) })
		synctest.Wait()
		b.set(1e6)
		waiting.Wait()
		between(t, time.Since(begin), 900*time.Millisecond, 1100*time.Millisecond)

		waiting.Go(func() { b.pass(1e9, nil) })
		synctest.Wait()
		b.set(0)
		waiting.Wait()
		between(t, time.Since(begin), 900*time.Millisecond, 1100*time.Millisecond)

		b.set(1000)
		done := make(chan struct{})
		waiting.Go(func() { b.pass(1e9, done) })
		synctest.Wait()
		close(done)
		waiting.Wait()
	})
}

func TestRateChangesWhileFlowsRun(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	service := server(t, "web")
	for _, end := range []string{"entrance", "exit"} {
		for _, direction := range []string{"rateUp", "rateDown"} {
			t.Run(end+" "+direction, func(t *testing.T) {
				limit := fmt.Sprintf("%q:\"1kB/s\"", direction) // at which a megabyte takes a quarter of an hour
				if end == "exit" {
					b.offer(t, "tcp/web", service, limit)
				} else {
					b.offer(t, "tcp/web", service)
				}
				address := appstest.FreeAddress(t)
				listen := fmt.Sprintf(`{"listens":[%q]`, address)
				if end == "entrance" {
					a.mustCall(t, "POST", "/inbound/tcp/web", listen+","+limit+"}", nil)
				} else {
					a.mustCall(t, "POST", "/inbound/tcp/web", listen+"}", nil)
				}
				c := dial(t, address)
				if _, err := readLine(c); err != nil {
					t.Fatal(err)
				}
				data := bytes.Repeat([]byte("x"), 1<<20)
				go func() {
					c.Write(data)
					c.(*net.TCPConn).CloseWrite()
				}()
				received := make(chan int, 1)
				go func() {
					got, _ := io.ReadAll(c)
					received <- len(got)
				}()
				appstest.Eventually(t, "something passes", func() bool { return b.outboundStatus(t, "tcp/web").Stats.Up > 0 })
				select {
				case <-received:
					t.Fatal("it was not held back")
				default:
				}
				b.offer(t, "tcp/web", service)
				a.mustCall(t, "POST", "/inbound/tcp/web", listen+"}", nil)
				if got := <-received; got != len(data) {
					t.Errorf("%d bytes came back, want %d", got, len(data))
				}
				b.mustCall(t, "DELETE", "/outbound/tcp/web", nil, nil)
				a.mustCall(t, "DELETE", "/inbound/tcp/web", nil, nil)
			})
		}
	}
}

func TestConnectionsOverTheLimitAreReset(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	service := server(t, "web")
	b.offer(t, "tcp/web", service, `"maxConns":2`)
	address := a.listen(t, "tcp/web")
	var conns []net.Conn
	for range 2 {
		c := dial(t, address)
		if _, err := readLine(c); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	wantReset(t, address)
	appstest.Eventually(t, "the inbound says why", func() bool {
		return strings.Contains(a.inboundStatus(t, "tcp/web").Stats.LastError, "tunnel tcp/web has its limit of 2 connections")
	})
	if s := b.outboundStatus(t, "tcp/web").Stats; s.Errors[answer.Limit] != 1 || s.Active != 2 {
		t.Errorf("the exit counted %+v", s)
	}
	b.offer(t, "tcp/web", service, `"maxConns":1`) // cuts nobody
	for _, c := range conns {
		io.WriteString(c, "still here\n")
		if line, err := readLine(c); line != "still here" {
			t.Errorf("got %q, %v", line, err)
		}
	}
	b.offer(t, "tcp/web", service)
	wantGreeting(t, address, "web")

	a.mustCall(t, "POST", "/inbound/tcp/web", fmt.Sprintf(`{"listens":["0",%q],"maxConns":2}`, appstest.FreeAddress(t)), nil)
	s := a.inboundStatus(t, "tcp/web")
	if got, err := greeting(t, s.Listeners[1].Address); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("over the limit of the entrance: %q, %v", got, err)
	}
	conns[0].Close()
	appstest.Eventually(t, "a place is free", func() bool {
		got, _ := greeting(t, s.Listeners[1].Address)
		return got == "web"
	})
}

func TestLimitedDatagramsAreDroppedAndCounted(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	b.offer(t, "udp/echo", udpServer(t, ""))
	c := dialUDP(t, a.listen(t, "udp/echo", `"rateUp":"1kB/s"`))
	appstest.Eventually(t, "datagrams are dropped at the entrance", func() bool {
		c.Write(make([]byte, 1000))
		return a.inboundStatus(t, "udp/echo").Stats.Dropped > 0
	})
}

func TestPortRangesAreForwardedPortByPort(t *testing.T) {
	var n appstest.Net
	a, b := join(t, &n, "a", "alice"), join(t, &n, "b", "alice")
	first, entrance := appstest.FreePorts(t, 3), appstest.FreePorts(t, 3)
	for i := range 3 {
		serve(t, listenTCP(t, appstest.Loopback(first+i)), fmt.Sprintf("port %d", i))
	}
	b.offer(t, "tcp/ftp", fmt.Sprintf("127.0.0.1:%d-%d", first, first+2))
	a.mustCall(t, "POST", "/inbound/tcp/ftp", fmt.Sprintf(`{"listens":["%d-%d"]}`, entrance, entrance+2), nil)
	for i := range 3 {
		wantGreeting(t, fmt.Sprintf("127.0.0.1:%d", entrance+i), fmt.Sprintf("port %d", i))
	}
	a.mustCall(t, "POST", "/inbound/tcp/ftp", fmt.Sprintf(`{"listens":["%d-%d"]}`, entrance+1, entrance+2), nil)
	wantReset(t, fmt.Sprintf("127.0.0.1:%d", entrance+1))
	appstest.Eventually(t, "the inbound explains", func() bool {
		return strings.Contains(a.inboundStatus(t, "tcp/ftp").Stats.LastError, "tunnel tcp/ftp has 3 ports at its exit and 2 at its entrance")
	})
}
