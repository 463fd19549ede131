package directory

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/offer"
	"ztm/tunnel/unixtime"
)

func (f *Filter) match(e *endpoint) bool {
	named, perhaps := offer.Has(e.Record.Offers, f.Offer)
	switch {
	case f.User != "" && f.User != e.Subject.User:
		return false
	case f.Offer != "" && !named && !perhaps:
		return false
	case f.Keyword == "" || strings.Contains(e.Record.Name, f.Keyword):
		return true
	}
	return slices.ContainsFunc(e.Record.Labels, func(l string) bool { return strings.Contains(l, f.Keyword) })
}

// List implements [Directory].
func (d *Local) List(f Filter) tunnel.Page {
	limit := min(cmp.Or(f.Limit, tunnel.PageSize), tunnel.PageSize)
	now := unixtime.Of(time.Now())
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
		if !f.match(e) || f.Online && !d.onlineLocked(e) {
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
		page.Entries = append(page.Entries, d.entryLocked(e, now))
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
	return d.entryLocked(e, unixtime.Of(time.Now())), nil
}

func (d *Local) entryLocked(e *endpoint, now unixtime.Seconds) tunnel.Entry {
	t := tunnel.Entry{Record: e.Doc, Address: e.address, Online: e.attached != nil, Seen: e.seen}
	address, hubs, online := d.seen(e.Subject.ID)
	t.Hubs = hubs
	if e.attached != nil {
		t.Hubs = append(hubs, d.self)
	} else if online {
		t.Address, t.Online = address, true
	}
	if t.Online {
		t.Seen = now
	}
	return t
}
