package cloud

import (
	"sync"

	"ztm/apps"
	"ztm/apps/cloud/entry"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/policy"
)

// Files can be shared with groups. The publisher signs the name of the group, and each holder judges
// by the policy that it has who is in it now. A holder that knows of no such group lets nobody in by
// it.

// reader is a peer as somebody who wants to read.
func (a *App) reader(p apps.Peer) entry.Reader {
	return entry.Reader{User: p.User, In: func(group string) bool { return a.in(p, group) }}
}

// in reports whether a peer is in a group now.
func (a *App) in(p apps.Peer, group string) bool {
	return a.host.Names(p, []string{policy.GroupPrefix + group})
}

var _ apps.Judge = (*App)(nil)

// Judge implements [apps.Judge]: whoever has left a group gets nothing more by it, and whoever has
// joined one hears of its files.
func (a *App) Judge(func(apps.Peer, string) bool) {
	if a.broken != nil {
		return
	}
	lost := a.giving.lost()
	if len(lost) > 0 {
		a.host.Cut(func(p apps.Peer, path string) bool { return path == "blocks" && lost[p.ID] })
	}
	if a.index.Shared() {
		a.news.Again()
	}
}

// giving is the flows in which peers get content. The zero value is none.
type giving struct {
	mu    sync.Mutex
	flows map[*toPeer]struct{} // guarded by mu
}

func (g *giving) add(p *toPeer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.flows == nil {
		g.flows = map[*toPeer]struct{}{}
	}
	g.flows[p] = struct{}{}
}

func (g *giving) remove(p *toPeer) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.flows, p)
}

// lost returns the peers that have left a group by which they got something.
func (g *giving) lost() map[identity.ID]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	lost := map[identity.ID]bool{}
	for p := range g.flows {
		if p.lost() {
			lost[p.peer.ID] = true
		}
	}
	return lost
}
