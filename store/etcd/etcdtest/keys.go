package etcdtest

import (
	"bytes"
	"slices"
)

// change is a change of a key.
type change struct {
	Key, Value []byte
	Revision   int64
	Lease      int64
	Deleted    bool
}

type kv struct {
	Key      []byte `json:"key"`
	Value    []byte `json:"value,omitempty"`
	Revision int64  `json:"mod_revision,string,omitempty"`
}

func within(key, from, end []byte) bool {
	if len(end) == 0 {
		return bytes.Equal(key, from)
	}
	return bytes.Compare(key, from) >= 0 && (bytes.Equal(end, []byte{0}) || bytes.Compare(key, end) < 0)
}

// atLocked returns the keys of a range as they were at a revision, sorted.
func (c *Cluster) atLocked(from, end []byte, revision int64) []kv {
	last := map[string]change{}
	for _, h := range c.history {
		if h.Revision <= revision && within(h.Key, from, end) {
			last[string(h.Key)] = h
		}
	}
	var out []kv
	for _, h := range last {
		if !h.Deleted {
			out = append(out, kv{h.Key, h.Value, h.Revision})
		}
	}
	slices.SortFunc(out, func(a, b kv) int { return bytes.Compare(a.Key, b.Key) })
	return out
}

func (c *Cluster) rangeLocked(in *request) (any, *failure) {
	at := in.Revision
	switch {
	case at == 0:
		at = c.revision
	case at < c.compacted:
		return nil, &failure{400, 11, "etcdserver: mvcc: required revision has been compacted"}
	case at > c.revision:
		return nil, &failure{400, 11, "etcdserver: mvcc: required revision is a future revision"}
	}
	out := map[string]any{"header": c.headerLocked()}
	all := c.atLocked(in.Key, in.End, at)
	if len(all) > 0 {
		out["count"] = len(all)
	}
	all = slices.DeleteFunc(all, func(k kv) bool { return k.Revision < in.MinRevision })
	if in.Limit > 0 && len(all) > int(in.Limit) {
		all = all[:in.Limit]
		out["more"] = true
	}
	for i := range all {
		if in.KeysOnly {
			all[i].Value = nil
		}
	}
	out["kvs"] = all
	return stringCount(out), nil
}

// stringCount writes the count as the gateway does.
func stringCount(out map[string]any) map[string]any {
	if n, ok := out["count"].(int); ok {
		out["count"] = itoa(n)
	}
	return out
}

type compare struct {
	Key      []byte
	Revision int64 `json:"mod_revision,string"`
}

type op struct {
	Put *struct {
		Key, Value []byte
		Lease      int64 `json:"lease,string"`
	} `json:"request_put"`
	Delete *struct{ Key []byte } `json:"request_delete_range"`
	Range  *request              `json:"request_range"`
}

func (c *Cluster) txnLocked(in *request, fault Fault) (any, *failure) {
	if len(in.Success) > 128 || len(in.Compare) > 128 {
		return nil, &failure{400, 3, "etcdserver: too many operations in txn request"}
	}
	holds := !slices.ContainsFunc(in.Compare, func(cmp compare) bool {
		found := c.atLocked(cmp.Key, nil, c.revision)
		revision := int64(0)
		if len(found) > 0 {
			revision = found[0].Revision
		}
		return revision != cmp.Revision
	})
	if fault == Full && slices.ContainsFunc(in.Success, func(o op) bool { return o.Put != nil }) {
		return nil, &failure{429, 8, "etcdserver: mvcc: database space exceeded"}
	}
	if !holds {
		var responses []any
		for _, o := range in.Failure {
			got, _ := c.rangeLocked(o.Range)
			responses = append(responses, map[string]any{"response_range": got})
		}
		return map[string]any{"header": c.headerLocked(), "responses": responses}, nil
	}
	c.applyLocked(in.Success)
	return map[string]any{"header": c.headerLocked(), "succeeded": true}, nil
}

func (c *Cluster) applyLocked(ops []op) {
	next, before := c.revision+1, len(c.history)
	for _, o := range ops {
		switch {
		case o.Put != nil:
			c.history = append(c.history, change{o.Put.Key, o.Put.Value, next, o.Put.Lease, false})
		case len(c.atLocked(o.Delete.Key, nil, c.revision)) > 0:
			c.history = append(c.history, change{Key: o.Delete.Key, Revision: next, Deleted: true})
		}
	}
	if len(c.history) > before {
		c.revision = next
		c.writes++
		c.tellLocked()
	}
}

// Set sets a key behind the back of everybody, as somebody else with access to the cluster could.
func (c *Cluster) Set(key string, value []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision++
	c.history = append(c.history, change{Key: []byte(key), Value: value, Revision: c.revision})
	c.tellLocked()
}

// Keys returns the keys with a prefix and their values.
func (c *Cluster) Keys(prefix string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for _, k := range c.atLocked([]byte(prefix), []byte{0}, c.revision) {
		if bytes.HasPrefix(k.Key, []byte(prefix)) {
			out[string(k.Key)] = string(k.Value)
		}
	}
	return out
}
