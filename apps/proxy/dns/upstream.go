package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Name servers fail in more ways than by silence. As the resolvers of C libraries do, a question goes on to the next
// server also after an answer that says nothing of the name (SERVFAIL, REFUSED, NOTIMP). It does not wait for a server
// that stays silent, and a server that did is asked last for a while.

const (
	serverDelay = time.Second             // so long a name server may stay silent before the next one is asked, too
	serverTry   = 1500 * time.Millisecond // of the system's resolver, for one of several name servers
	serverRetry = 2500 * time.Millisecond // of the system's resolver, for the only name server: then again
	muteFor     = 30 * time.Second        // so long a name server that was silent comes after the others
	maxServers  = 8                       // that one question is put to
)

var errNoServer = errors.New("there is no name server")

// servers asks the name servers of this device. The zero value does not know of any that was silent.
type servers struct {
	mu   sync.Mutex
	mute map[netip.AddrPort]time.Time // when a server was last silent; guarded by mu
}

// order returns the servers, those last that were silent lately.
func (s *servers) order(list []netip.AddrPort) []netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b netip.AddrPort) int { return s.mute[a].Compare(s.mute[b]) })
	return list
}

// heard notes whether a server answered. What is long ago is forgotten.
func (s *servers) heard(server netip.AddrPort, answered bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for known, at := range s.mute {
		if known == server || time.Since(at) > muteFor {
			delete(s.mute, known)
		}
	}
	if answered {
		return
	}
	if s.mute == nil {
		s.mute = map[netip.AddrPort]time.Time{}
	}
	s.mute[server] = time.Now()
}

// verdict is what became of a question at one server.
type verdict struct {
	got []byte
	err error
}

// ask puts a message to the servers until one gives an answer that says something. Without one it returns an answer
// that does not, if there is any. network is "udp" or "tcp".
func (s *servers) ask(ctx context.Context, list []netip.AddrPort, message []byte, network string, dial DialFunc) ([]byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	left := s.order(list[:min(len(list), maxServers)])
	if len(left) == 1 {
		left = append(left, left[0]) // a datagram may be lost
	}
	verdicts := make(chan verdict) // unbuffered, never closed: every question is waited for
	last := verdict{err: errNoServer}
	next := time.NewTimer(0)
	defer next.Stop()
	for running, done := 0, false; ; {
		start := next.C
		if len(left) == 0 || done {
			start = nil
			if running == 0 {
				return last.got, last.err
			}
		}
		select {
		case <-start:
			server := left[0]
			left, running = left[1:], running+1
			go func() { // awaited by the receive below
				began := time.Now()
				a, err := askServer(ctx, dial, server, message, network)
				if ctx.Err() == nil || time.Since(began) >= serverDelay { // else another server was quicker
					s.heard(server, err == nil)
				}
				verdicts <- verdict{a, err}
			}()
			next.Reset(serverDelay)
		case v := <-verdicts:
			running--
			if !done && (v.got != nil || last.got == nil) {
				last = v
			}
			if done = done || v.err == nil && decisive(v.got); done {
				cancel()
			}
			next.Reset(0)
		}
	}
}

// decisive reports whether an answer says something about the name.
func decisive(got []byte) bool {
	var p dnsmessage.Parser
	h, err := p.Start(got)
	return err == nil && (h.RCode == dnsmessage.RCodeSuccess || h.RCode == dnsmessage.RCodeNameError)
}

type DialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// askServer sends a message to a name server. Over UDP, the source port and the ID are new for each question; answers
// that do not fit are not the server's.
func askServer(ctx context.Context, dial DialFunc, server netip.AddrPort, message []byte, network string) ([]byte, error) {
	c, err := dial(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	asked := append([]byte(nil), message...)
	id := newID()
	binary.BigEndian.PutUint16(asked, id)
	send, receive := writeMessage, readMessage
	if network == "udp" {
		send, receive = writeDatagram, readDatagram
	}
	if err := send(c, asked); err != nil {
		return nil, err
	}
	for {
		a, err := receive(c)
		if err != nil {
			return nil, err
		}
		if len(a) >= 12 && binary.BigEndian.Uint16(a) == id && sameQuestion(asked, a) {
			copy(a, message[:2])
			return a, nil
		}
	}
}
