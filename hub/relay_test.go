package hub

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// opener is how an agent opens a path: on a connection of its own, or as a stream.
type opener func(o *online, peer identity.ID, ticket string) (net.Conn, error)

var openers = map[string]opener{
	"connection": func(o *online, peer identity.ID, ticket string) (net.Conn, error) { return o.carry(peer, ticket) },
	"stream": func(o *online, peer identity.ID, ticket string) (net.Conn, error) {
		return o.Session.Relay(context.Background(), peer, ticket)
	},
}

// pair opens a path between two endpoints and returns its ends.
func pair(t testing.TB, a, b *online, first, second opener) (near, far net.Conn) {
	t.Helper()
	var wg sync.WaitGroup
	var err1, err2 error
	wg.Go(func() { near, err1 = first(a, b.id, "") })
	e := b.next(tunnel.EventDialBack)
	if e.Peer != a.id {
		t.Errorf("the dial-back is for %q, want %q", e.Peer, a.id)
	}
	far, err2 = second(b, b.id, e.Ticket)
	wg.Wait()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return near, far
}

func TestAPathBringsEveryByteBothWays(t *testing.T) {
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	for first, open := range openers {
		for second, answer := range openers {
			t.Run(first+" to "+second, func(t *testing.T) {
				near, far := pair(t, a, b, open, answer)
				there, back := make([]byte, 3<<20), make([]byte, 2<<20)
				rand.Read(there)
				rand.Read(back)
				var wg sync.WaitGroup
				send := func(c net.Conn, data []byte) {
					if _, err := c.Write(data); err != nil {
						t.Error(err)
					}
				}
				receive := func(c net.Conn, want []byte) {
					got := make([]byte, len(want))
					if _, err := io.ReadFull(c, got); err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
						t.Errorf("got other bytes, or not all: %v", err)
					}
				}
				wg.Go(func() { send(near, there) })
				wg.Go(func() { send(far, back) })
				wg.Go(func() { receive(near, back) })
				wg.Go(func() { receive(far, there) })
				wg.Wait()

				// The end of one end is the end of the other.
				near.Close()
				if n, err := far.Read(make([]byte, 1)); err == nil {
					t.Errorf("%d more bytes", n)
				}
			})
		}
	}
}

func TestAPathHalfCloses(t *testing.T) {
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	for range 20 {
		near, far := pair(t, a, b, openers["connection"], openers["connection"])
		io.WriteString(near, "question")
		near.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(far); string(got) != "question" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
		io.WriteString(far, "answer")
		far.Close()
		if got, err := io.ReadAll(near); string(got) != "answer" || err != nil {
			t.Fatalf("%q %v", got, err)
		}
	}
}

func TestAnEndpointReachesItself(t *testing.T) {
	h := start(t)
	a := h.device("alice").online("a")
	near, far := pair(t, a, a, openers["connection"], openers["connection"])
	io.WriteString(near, "x")
	if _, err := io.ReadFull(far, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

func TestAPathIsRefusedInWords(t *testing.T) {
	h := start(t)
	a := h.device("alice").online("a")
	off := h.device("bob")
	if err := off.put(off.session(), off.record("off")); err != nil {
		t.Fatal(err)
	}
	unknown := h.device("bob").id
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			_, err := open(a, off.id, "")
			wantRefusal(t, err, 503, "endpoint off is offline")
			_, err = open(a, unknown, "")
			wantRefusal(t, err, 404, "no endpoint "+string(unknown))
			_, err = open(a, "nobody", "")
			wantRefusal(t, err, 400, "not an ID")
			_, err = open(a, a.id, "a-ticket-that-never-was")
			wantRefusal(t, err, 404, "ticket")
		})
	}
}

func TestATicketIsGoodOnceAndForItsEndpointAlone(t *testing.T) {
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	eve := h.device("eve").online("eve")
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			wg.Go(func() {
				c, err := open(a, b.id, "")
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if got, err := io.ReadAll(c); string(got) != "b" {
					t.Errorf("%q %v", got, err)
				}
			})
			ticket := b.next(tunnel.EventDialBack).Ticket
			_, err := open(eve, eve.id, ticket)
			wantRefusal(t, err, 404, "ticket")
			_, err = open(eve, b.id, ticket)
			wantRefusal(t, err, 403, "cannot answer for")
			_, err = open(b, b.id, ticket[:len(ticket)-1])
			wantRefusal(t, err, 404, "ticket")

			c, err := b.carry(b.id, ticket)
			if err != nil {
				t.Fatalf("the attempts of others spent the ticket: %v", err)
			}
			_, err = open(b, b.id, ticket)
			wantRefusal(t, err, 404, "ticket")
			io.WriteString(c, "b")
			c.Close()
			wg.Wait()
		})
	}
}

func TestATicketExpires(t *testing.T) {
	h := start(t, func(c *Config) { c.ticket = 20 * time.Millisecond })
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	_, err := a.carry(b.id, "")
	wantRefusal(t, err, 504, "endpoint b does not answer")
	_, err = b.carry(b.id, b.next(tunnel.EventDialBack).Ticket)
	wantRefusal(t, err, 404, "ticket")
}

func TestAnOpenerHearsThatItsPeerWentOffline(t *testing.T) {
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	refused := make(chan error, 1)
	go func() {
		_, err := a.carry(b.id, "")
		refused <- err
	}()
	b.next(tunnel.EventDialBack)
	b.Session.Close()
	wantRefusal(t, <-refused, 503, "endpoint b went offline")
}

// A path outlives the sessions that it was arranged over.
func TestTheEndOfASessionIsNotTheEndOfItsPaths(t *testing.T) {
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	a.Session.Close()
	b.Session.Close()
	other := h.device("carol").session()
	eventually(t, "both are offline", func() bool {
		var s tunnel.HubStatus
		return other.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &s) == nil && s.Agents == 0
	})
	io.WriteString(near, "still")
	got := make([]byte, 5)
	if _, err := io.ReadFull(far, got); err != nil || string(got) != "still" {
		t.Errorf("%q %v", got, err)
	}
}

func TestLimitsOfPaths(t *testing.T) {
	cases := []struct {
		name   string
		limits Limits
		stand  int // paths that stand before
		wait   int // paths that wait for their second leg before
		part   string
	}{
		{"of the hub", Limits{Paths: 2}, 2, 0, "the hub relays 2"},
		{"of a user", Limits{PathsPerUser: 2}, 2, 0, "user alice has 2"},
		{"waiting of an opener", Limits{Pending: 2}, 0, 2, "waits for 2"},
		{"waiting for an endpoint", Limits{PendingAt: 4}, 1, 2, "too many connections of user alice already wait"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := start(t, func(config *Config) { config.Limits = c.limits })
			a, b := h.device("alice").online("a"), h.device("bob").online("b")
			var near, far net.Conn
			for range c.stand {
				near, far = pair(t, a, b, openers["connection"], openers["connection"])
			}
			var wg sync.WaitGroup
			var tickets []string
			for range c.wait {
				wg.Go(func() {
					if c, err := a.carry(b.id, ""); err == nil {
						c.Close()
					}
				})
				tickets = append(tickets, b.next(tunnel.EventDialBack).Ticket)
			}
			for name, open := range openers {
				_, err := open(a, b.id, "")
				wantRefusal(t, err, 429, c.part)
				var r *answer.Error
				if errors.As(err, &r); r.Code != "connection_limit_reached" {
					t.Errorf("%s: code %q", name, r.Code)
				}
			}
			for _, ticket := range tickets {
				if c, err := b.carry(b.id, ticket); err == nil {
					c.Close()
				}
			}
			wg.Wait()
			if near != nil {
				near.Close()
				far.Close()
			}
			b.answer(echo)
			eventually(t, "there is room again", func() bool {
				c, err := a.carry(b.id, "")
				if err == nil {
					c.Close()
				}
				return err == nil
			})
		})
	}
}

// The hub holds no more than the kernel does while a reader stands still.
func TestAReaderThatStandsStillHoldsItsWriterBack(t *testing.T) {
	t.Parallel() // it waits, most of the time
	appstest.Long(t)
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	block := make([]byte, 1<<20)
	written := 0
	near.SetWriteDeadline(time.Now().Add(2 * time.Second))
	for {
		n, err := near.Write(block)
		written += n
		if err != nil {
			break
		}
		if written > 512<<20 {
			t.Fatal("the writer is not held back")
		}
	}
	near.SetWriteDeadline(time.Time{})
	near.(interface{ CloseWrite() error }).CloseWrite()
	if n, err := io.Copy(io.Discard, far); n != int64(written) || err != nil {
		t.Errorf("%d of %d bytes arrived: %v", n, written, err)
	}
}

func TestAShutdownLetsRunningPathsEnd(t *testing.T) {
	h := start(t, func(c *Config) { c.drain = timeout })
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	wait(t, "the events end", a.ended)
	if _, err := net.Dial("tcp", h.address()); err == nil {
		t.Error("the hub still listens")
	}
	io.WriteString(near, "last words")
	near.Close()
	if got, err := io.ReadAll(far); string(got) != "last words" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	far.Close()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// An agent must not take a path that was cut for one that has ended.
func TestAShutdownCutsWhatDoesNotEnd(t *testing.T) {
	h := start(t, func(c *Config) { c.drain = time.Millisecond })
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	near, far := pair(t, a, b, openers["connection"], openers["connection"])
	waiting := make(chan error, 1)
	go func() {
		_, err := a.carry(b.id, "")
		waiting <- err
	}()
	b.next(tunnel.EventDialBack)
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{near, far} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("a cut path ends with %v", err)
		}
	}
	if err := <-waiting; err == nil {
		t.Error("a path came about after the end")
	}
}

func TestManyPathsAtATime(t *testing.T) {
	h := start(t)
	b := h.device("bob").online("b")
	b.answer(echo)
	var users []*online
	for i := range 4 {
		users = append(users, h.device(fmt.Sprint("user", i)).online(fmt.Sprint("ep", i)))
	}
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			c, err := users[i%len(users)].carry(b.id, "")
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			want := bytes.Repeat([]byte(fmt.Sprint(i, " ")), 1000)
			go func() { // ends with its write, which the echo takes
				c.Write(want)
				c.(interface{ CloseWrite() error }).CloseWrite()
			}()
			got, err := io.ReadAll(c)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v, %d of %d bytes", err, len(got), len(want))
			}
		})
	}
	wg.Wait()
}

func TestLegsThatSayNothingAreLimited(t *testing.T) {
	for _, tt := range []struct {
		name    string
		limits  Limits
		devices int // of one user
	}{
		{"of an endpoint", Limits{Legs: 3}, 1},
		{"of a user", Limits{Legs: 3, PathsPerUser: 3}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, func(c *Config) { c.Limits = tt.limits })
			var devices []*device
			for range tt.devices {
				devices = append(devices, h.device("bob"))
			}
			// The order in which the hub sees four connections is not known; it closes one of them.
			closed := make(chan struct{}, 4)
			for i := range 4 {
				c, err := tlsLeg(devices[i%tt.devices])
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				go func() { // ends with the connection
					c.Read(make([]byte, 1))
					closed <- struct{}{}
				}()
			}
			select {
			case <-closed:
			case <-time.After(tunnel.HandshakeTimeout / 2):
				t.Error("all legs stay")
			}
			if c, err := tlsLeg(h.device("alice")); err != nil {
				t.Error(err)
			} else {
				c.Close()
			}
		})
	}
}

// insist asks for a path to a peer, as a stream, again and again until the test ends.
func (o *online) insist(peer identity.ID) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	o.hub.t.Cleanup(func() { cancel(); wg.Wait() })
	wg.Go(func() {
		for ctx.Err() == nil {
			if c, err := o.Session.Relay(ctx, peer, ""); err == nil {
				c.Close()
			}
		}
	})
}

func TestWaitingForAnEndpointKeepsNoOtherUserOut(t *testing.T) {
	h := start(t, func(c *Config) { c.Limits.Pending, c.Limits.PendingAt = 16, 32 })
	p := newHonest(t, h)
	victim := h.device("victim").online("victim")
	var attackers []identity.ID
	for _, name := range []string{"eve-1", "eve-2"} {
		eve := h.device("eve").online(name)
		attackers = append(attackers, eve.id)
		for range 16 {
			eve.insist(victim.id)
		}
	}
	for range 16 { // half of the places wait now, for nothing
		victim.next(tunnel.EventDialBack)
	}
	victim.answerTo(func(peer identity.ID) bool { return !slices.Contains(attackers, peer) }, echo)
	for range 3 {
		c, err := p.a.carry(victim.id, "")
		if err != nil {
			t.Fatalf("another user cannot reach the endpoint: %v", err)
		}
		c.Close()
	}
	p.works(t)
}

func TestAnEndpointThatWillNotAnswerEndsTheWait(t *testing.T) {
	h := start(t)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			opened := make(chan error, 1)
			go func() {
				_, err := open(a, b.id, "")
				opened <- err
			}()
			ticket := tunnel.PathTickets + "/" + b.next(tunnel.EventDialBack).Ticket
			wantRefusal(t, a.Call(t.Context(), "DELETE", ticket, nil, nil, nil), 404, "ticket")
			if err := b.Call(t.Context(), "DELETE", ticket, nil, nil, nil); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, <-opened, 429, "endpoint b accepts no more connections")
			wantRefusal(t, b.Call(t.Context(), "DELETE", ticket, nil, nil, nil), 404, "ticket")
		})
	}
}
