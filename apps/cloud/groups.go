package cloud

import (
	"ztm/apps"
	"ztm/apps/cloud/entry"
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
	lost := a.giving.Lost()
	if len(lost) > 0 {
		a.host.Cut(func(p apps.Peer, path string) bool { return path == "blocks" && lost[p.ID] })
	}
	if a.index.Shared() {
		a.news.Again()
	}
}
