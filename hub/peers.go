package hub

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"ztm/hub/admission"
	"ztm/hub/limits"
	"ztm/tunnel/identity"
)

// peer is the owner of one connection, as its verified certificate says. It is immutable but for
// the connection.
type peer struct {
	identity.Subject
	addr netip.AddrPort
	raw  *net.TCPConn

	reading chan struct{} // holds a token for each page of the directory that is being sent to this peer
	posting atomic.Bool   // a trust list is being read from this peer
}

func newPeer(s identity.Subject, raw *net.TCPConn) *peer {
	return &peer{Subject: s, addr: addrOf(raw), raw: raw, reading: make(chan struct{}, limits.PagesAtOnce)}
}

// addrOf returns the remote address of a connection.
func addrOf(c *net.TCPConn) netip.AddrPort {
	a, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{} // closed already
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// cut ends the peer's connection at once, in a way that the other end takes for a failure. It may
// be called at any time.
func (p *peer) cut() {
	p.raw.SetLinger(0)
	p.raw.Close()
}

// peers are all connections whose owner is known: control sessions, legs, and relayed paths.
type peers struct {
	mu      sync.Mutex
	all     map[*peer]struct{}
	control map[identity.ID][]*peer // control sessions by endpoint, oldest first
}

func newPeers() *peers {
	return &peers{all: map[*peer]struct{}{}, control: map[identity.ID][]*peer{}}
}

// add registers a connection. The caller verifies the peer again after that: an eviction between
// the handshake and add did not find it.
func (ps *peers) add(p *peer) {
	ps.mu.Lock()
	ps.all[p] = struct{}{}
	ps.mu.Unlock()
}

// addControl registers a control session. Of more than most sessions of an endpoint the oldest is
// cut.
func (ps *peers) addControl(p *peer, most int) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.all[p] = struct{}{}
	mine := append(ps.control[p.ID], p)
	if len(mine) > most {
		mine[0].cut()
		mine = slices.Delete(mine, 0, 1)
	}
	ps.control[p.ID] = mine
}

// remove forgets a connection that has ended.
func (ps *peers) remove(p *peer) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	delete(ps.all, p)
	mine := ps.control[p.ID]
	if i := slices.Index(mine, p); i >= 0 {
		mine = slices.Delete(mine, i, i+1)
	}
	if len(mine) == 0 {
		delete(ps.control, p.ID)
	} else {
		ps.control[p.ID] = mine
	}
}

// sources returns the sources of all connections.
func (ps *peers) sources() map[netip.Addr]struct{} {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	from := map[netip.Addr]struct{}{}
	for p := range ps.all {
		from[admission.Source(p.addr.Addr())] = struct{}{}
	}
	return from
}

// cut cuts every connection for which which says so, and returns how many.
func (ps *peers) cut(which func(*peer) bool) int {
	ps.mu.Lock()
	all := make([]*peer, 0, len(ps.all))
	for p := range ps.all {
		all = append(all, p)
	}
	ps.mu.Unlock()
	n := 0
	for _, p := range all {
		if which(p) {
			p.cut()
			n++
		}
	}
	return n
}
