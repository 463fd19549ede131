package hub

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// filter narrows a listing. The zero value matches every endpoint.
type filter struct {
	name, user, offer, keyword string
	online                     bool
	offset, limit              int // limit 0: as many as a page takes
}

func (f *filter) match(e *endpoint) bool {
	switch {
	case f.online && e.session == nil:
		return false
	case f.user != "" && f.user != e.Subject.User:
		return false
	case f.offer != "" && !slices.Contains(e.Record.Offers, f.offer):
		return false
	case f.keyword == "" || strings.Contains(e.Record.Name, f.keyword):
		return true
	}
	return slices.ContainsFunc(e.Record.Labels, func(l string) bool { return strings.Contains(l, f.keyword) })
}

// list returns one page of the endpoints that match, sorted by name.
func (g *registry) list(f filter) tunnel.Page {
	limit := min(cmp.Or(f.limit, tunnel.PageSize), tunnel.PageSize)
	now := time.Now().Unix()
	g.mu.RLock()
	defer g.mu.RUnlock()
	from, to := 0, len(g.byName)
	if f.name != "" {
		i, found := g.searchLocked(f.name)
		if from, to = i, i; found {
			to++
		}
	}
	page := tunnel.Page{Entries: []tunnel.Entry{}}
	size := 0
	for _, e := range g.byName[from:to] {
		if !f.match(e) {
			continue
		}
		if f.offset > 0 {
			f.offset--
			continue
		}
		if size += len(e.Doc); len(page.Entries) == limit || size > maxPage {
			page.More = true
			break
		}
		page.Entries = append(page.Entries, e.entryLocked(now))
	}
	return page
}

func (g *registry) entry(id identity.ID) (tunnel.Entry, error) {
	g.mu.RLock()
	defer g.mu.RUnlock()
	e := g.byID[id]
	if e == nil {
		return tunnel.Entry{}, answer.Errorf(answer.NotFound, "there is no endpoint %s", id)
	}
	return e.entryLocked(time.Now().Unix()), nil
}

func (e *endpoint) entryLocked(now int64) tunnel.Entry {
	t := tunnel.Entry{Record: e.Doc, Address: e.address, Online: e.session != nil, Seen: e.seen}
	if t.Online {
		t.Seen = now
	}
	return t
}

// date formats Unix milliseconds for people.
func date(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 MST") }
