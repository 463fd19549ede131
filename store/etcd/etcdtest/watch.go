package etcdtest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

type createRequest struct {
	Key   []byte
	End   []byte `json:"range_end"`
	Start int64  `json:"start_revision,string"`
}

type event struct {
	Type string `json:"type,omitempty"`
	KV   kv     `json:"kv"`
}

// watch is a watch at one member. As with the real one, one that is refused stays open in silence.
func (m *Member) watch(w http.ResponseWriter, r *http.Request, in createRequest) {
	c := m.cluster
	say := func(result map[string]any) {
		json.NewEncoder(w).Encode(map[string]any{"result": result})
		w.(http.Flusher).Flush()
	}
	c.mu.Lock()
	denied := c.user != "" && r.Header.Get("Authorization") != c.token
	compacted, head := c.compacted, c.headerLocked()
	c.mu.Unlock()
	say(map[string]any{"header": head, "created": true, "canceled": denied})
	switch {
	case denied:
		<-r.Context().Done()
		return
	case in.Start <= compacted:
		say(map[string]any{"header": head, "canceled": true, "compact_revision": itoa(int(compacted))})
		<-r.Context().Done()
		return
	}
	m.follow(r, in, say)
}

// follow tells changes until the client goes. A member that is frozen tells nothing.
func (m *Member) follow(r *http.Request, in createRequest, say func(map[string]any)) {
	for next := in.Start; ; {
		fault, ended := m.state()
		m.cluster.mu.Lock()
		changed := m.cluster.changed
		events := m.cluster.sinceLocked(in.Key, in.End, next)
		head := m.cluster.headerLocked()
		m.cluster.mu.Unlock()
		if fault == Well && len(events) > 0 {
			say(map[string]any{"header": head, "events": events})
			next = events[len(events)-1].KV.Revision + 1
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-changed:
		case <-ended:
		}
	}
}

func (c *Cluster) sinceLocked(from, end []byte, revision int64) (events []event) {
	i, _ := slices.BinarySearchFunc(c.history, revision, func(h change, r int64) int { return int(h.Revision - r) })
	for _, h := range c.history[i:] {
		if !within(h.Key, from, end) {
			continue
		}
		e := event{KV: kv{h.Key, h.Value, h.Revision}}
		if h.Deleted {
			e.Type = "DELETE"
		}
		events = append(events, e)
	}
	return events
}

// lease is one that was granted.
type lease struct {
	ttl  time.Duration
	ends time.Time
}

func (c *Cluster) grantLocked(ttl int64) any {
	id := int64(len(c.leases) + 1)
	d := time.Duration(ttl) * time.Second
	c.leases[id] = &lease{d, c.now().Add(d)}
	return map[string]any{"header": c.headerLocked(), "ID": itoa(int(id)), "TTL": itoa(int(ttl))}
}

// keepLocked answers without a TTL for a lease that is gone, as the real one does.
func (c *Cluster) keepLocked(id int64) any {
	result := map[string]any{"header": c.headerLocked(), "ID": itoa(int(id))}
	if l := c.leases[id]; l != nil {
		l.ends = c.now().Add(l.ttl)
		result["TTL"] = itoa(int(l.ttl / time.Second))
	}
	return map[string]any{"result": result}
}

func (c *Cluster) expireLocked() {
	for id, l := range c.leases {
		if l != nil && c.now().After(l.ends) {
			c.revokeLocked(id)
		}
	}
}

// revokeLocked ends a lease. Its number is not given again.
func (c *Cluster) revokeLocked(id int64) {
	if c.leases[id] == nil {
		return
	}
	c.leases[id] = nil
	last := map[string]change{}
	for _, h := range c.history {
		last[string(h.Key)] = h
	}
	for _, h := range last {
		if h.Lease == id && !h.Deleted {
			c.revision++
			c.history = append(c.history, change{Key: h.Key, Revision: c.revision, Deleted: true})
		}
	}
	c.tellLocked()
}
