package tunnel_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/balance"
	"ztm/apps/tunnel/tunneltest"
	"ztm/apps/udp"
)

func TestChecksFindTargetsThatAreDown(t *testing.T) {
	appstest.Long(t)
	var healthy atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" || !healthy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	tests := []struct{ check, target, want string }{
		{"tcp", tunneltest.Server(t, "up"), ""},
		{"tcp", appstest.FreeAddress(t), "refused the connection"},
		{"http:/other", web.Listener.Addr().String(), "answers the check with status 503"},
		{"http:/health", web.Listener.Addr().String(), "answers the check with status 503"},
		{"http:/health", appstest.FreeAddress(t), "refused the connection"},
	}
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "alice")
	for i, test := range tests {
		name := fmt.Sprintf("tcp/web%d", i)
		b.Offer(t, name, test.target, fmt.Sprintf(`"check":%q`, test.check))
		appstest.Eventually(t, test.check+" gives "+test.want, func() bool {
			h := b.OutboundStatus(t, name).Health[0]
			return h.State == map[bool]balance.State{true: balance.Up, false: balance.Down}[test.want == ""] && strings.Contains(h.Error, test.want)
		})
	}
	healthy.Store(true)
	appstest.Eventually(t, "the target is up again", func() bool { return b.OutboundStatus(t, "tcp/web3").Health[0].State == balance.Up })
	b.Offer(t, "tcp/web2", tests[2].target)
	appstest.Eventually(t, "without a check nobody knows", func() bool { return b.OutboundStatus(t, "tcp/web2").Health[0].State == balance.Untried })
}

func TestEachPortOfARangeIsChecked(t *testing.T) {
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "alice")
	one, two := appstest.FreePorts(t, 3), appstest.FreePorts(t, 3)
	up := appstest.Loopback(one + 1)
	tunneltest.Serve(t, tunneltest.ListenTCP(t, up), "up")
	b.Offer(t, "tcp/web", fmt.Sprintf("%d-%d,%d-%d", one, one+2, two, two+2), `"check":"tcp"`)
	appstest.Eventually(t, "one of six ports is up", func() bool {
		good := slices.DeleteFunc(b.OutboundStatus(t, "tcp/web").Health, func(h balance.Health) bool { return h.State != balance.Up })
		return len(good) == 1 && good[0].Name == up
	})
}

// breakable is a server that can be killed: its connections are reset.
type breakable struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
}

func (b *breakable) Accept() (net.Conn, error) {
	c, err := b.Listener.Accept()
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.conns = append(b.conns, c)
	}
	return c, err
}

func (b *breakable) kill() {
	b.Listener.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.conns {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// pingPong sends lines over a connection and wants them back, until stop is closed.
func pingPong(c net.Conn, stop <-chan struct{}, rounds *atomic.Int64) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		want := fmt.Sprintf("ping %d", i)
		if _, err := io.WriteString(c, want+"\n"); err != nil {
			return err
		}
		got, err := tunneltest.ReadLine(c)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		rounds.Add(1)
	}
}

func TestTargetThatDiesTakesOnlyItsOwnFlowsWithIt(t *testing.T) {
	appstest.Long(t)
	const flows = 200
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	inner := tunneltest.ListenTCP(t, appstest.FreeAddress(t))
	mortal := &breakable{Listener: inner}
	tunneltest.Serve(t, mortal, "mortal")
	b.Offer(t, "tcp/web", inner.Addr().String()+","+tunneltest.Server(t, "immortal"))
	address := a.Listen(t, "tcp/web")

	var rounds atomic.Int64
	var lost [2]atomic.Int64 // of the mortal target's flows, of the others
	on := map[string]int{}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range flows {
		c := tunneltest.Dial(t, address)
		c.SetDeadline(time.Time{})
		name, err := tunneltest.ReadLine(c)
		if err != nil {
			t.Fatal(err)
		}
		on[name]++
		running.Go(func() {
			if err := pingPong(c, stop, &rounds); err != nil && name == "mortal" {
				lost[0].Add(1)
			} else if err != nil {
				t.Errorf("a flow to the %s target: %v", name, err)
				lost[1].Add(1)
			}
		})
	}
	more := func(what string) {
		before := rounds.Load()
		appstest.Eventually(t, what, func() bool { return rounds.Load() > before+5*flows })
	}
	more("all flows move")
	mortal.kill()
	appstest.Eventually(t, "the flows of the target that died are lost", func() bool { return int(lost[0].Load()) == on["mortal"] })
	for range 10 {
		tunneltest.WantGreeting(t, address, "immortal")
	}
	more("the others go on")
	again := tunneltest.ListenTCP(t, inner.Addr().String())
	tunneltest.Serve(t, again, "reborn")
	appstest.Eventually(t, "the target is used again", func() bool {
		name, _ := tunneltest.Greeting(t, address)
		return name == "reborn"
	})
	more("the others still go on")
	close(stop)
	running.Wait()
	if on["mortal"] != flows/2 || lost[1].Load() != 0 {
		t.Errorf("of the flows on %v, %d and %d were lost", on, lost[0].Load(), lost[1].Load())
	}
}

// numbered sends numbered datagrams and wants them back, each with the name of the target before
// it, in order, until stop is closed. heard is called with the name of the target for each that is
// back. One that does not come back is sent again.
func numbered(c net.Conn, stop <-chan struct{}, heard func(target string)) error {
	buf := make([]byte, udp.MaxPacket)
	for last := 0; ; last++ {
		select {
		case <-stop:
			return nil
		default:
		}
		for {
			fmt.Fprintf(c, "%d", last+1)
			c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			n, err := c.Read(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				return err
			}
			var target string
			var number int
			if _, err := fmt.Sscanf(string(buf[:n]), "%s %d", &target, &number); err != nil || number > last+1 {
				return fmt.Errorf("got %q after %d", buf[:n], last)
			}
			heard(target)
			if number == last+1 {
				break
			}
		}
	}
}

func TestUDPTargetThatDiesLeavesItsClientsToTheOthers(t *testing.T) {
	appstest.Long(t)
	const clients = 20
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	address := appstest.FreeAddress(t)
	mortal, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	tunneltest.Echo(t, mortal, "mortal ")
	b.Offer(t, "udp/echo", address+","+tunneltest.UdpServer(t, "immortal "))
	entrance := a.Listen(t, "udp/echo")

	var mu sync.Mutex
	last := map[int]string{} // which target has answered each client last
	changed := map[int]int{} // how often it was another one than before
	on := func(target string) (count int) {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range last {
			if name == target {
				count++
			}
		}
		return count
	}
	stop := make(chan struct{})
	var running sync.WaitGroup
	for i := range clients {
		c := tunneltest.DialUDP(t, entrance)
		running.Go(func() {
			err := numbered(c, stop, func(target string) {
				mu.Lock()
				defer mu.Unlock()
				if last[i] != "" && last[i] != target {
					changed[i]++
				}
				last[i] = target
			})
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	appstest.Eventually(t, "all clients have an answer", func() bool { return on("mortal")+on("immortal") == clients })
	before := on("immortal")
	mortal.Close()
	appstest.Eventually(t, "all clients are at the other target", func() bool { return on("immortal") == clients })
	again, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	tunneltest.Echo(t, again, "reborn ")
	appstest.Eventually(t, "new clients come to the target again", func() bool {
		return strings.HasPrefix(string(tunneltest.Exchange(t, tunneltest.DialUDP(t, entrance), []byte("1"))), "reborn")
	})
	close(stop)
	running.Wait()
	if before != clients/2 || len(changed) != clients/2 {
		t.Errorf("%d of %d clients were at the target that lived, and %d changed theirs", before, clients, len(changed))
	}
}
