package directory

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func (f *Filter) match(e *endpoint) bool {
	switch {
	case f.Online && e.attached == nil:
		return false
	case f.User != "" && f.User != e.Subject.User:
		return false
	case f.Offer != "" && !slices.Contains(e.Record.Offers, f.Offer):
		return false
	case f.Keyword == "" || strings.Contains(e.Record.Name, f.Keyword):
		return true
	}
	return slices.ContainsFunc(e.Record.Labels, func(l string) bool { return strings.Contains(l, f.Keyword) })
}

// List implements [Directory].
func (d *Local) List(f Filter) tunnel.Page {
	limit := min(cmp.Or(f.Limit, tunnel.PageSize), tunnel.PageSize)
	now := time.Now().Unix()
	d.mu.RLock()
	defer d.mu.RUnlock()
	from, to := 0, len(d.byName)
	if f.Name != "" {
		i, found := d.searchLocked(f.Name)
		if from, to = i, i; found {
			to++
		}
	}
	page := tunnel.Page{Entries: []tunnel.Entry{}}
	size := 0
	for _, e := range d.byName[from:to] {
		if !f.match(e) {
			continue
		}
		if f.Offset > 0 {
			f.Offset--
			continue
		}
		if size += len(e.Doc); len(page.Entries) == limit || size > d.limits.PageBytes {
			page.More = true
			break
		}
		page.Entries = append(page.Entries, e.entryLocked(now))
	}
	return page
}

// Entry implements [Directory].
func (d *Local) Entry(id identity.ID) (tunnel.Entry, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	e := d.byID[id]
	if e == nil {
		return tunnel.Entry{}, answer.Errorf(answer.NotFound, "there is no endpoint %s", id)
	}
	return e.entryLocked(time.Now().Unix()), nil
}

func (e *endpoint) entryLocked(now int64) tunnel.Entry {
	t := tunnel.Entry{Record: e.Doc, Address: e.address, Online: e.attached != nil, Seen: e.seen}
	if t.Online {
		t.Seen = now
	}
	return t
}

// date formats Unix milliseconds for people.
func date(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05 MST") }
