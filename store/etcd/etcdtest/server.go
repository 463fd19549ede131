// Package etcdtest is an etcd for tests: as much of its JSON gateway as package etcd speaks, in
// memory, and broken in the ways in which a real one breaks.
//
//	server.go   members, and what they do wrong
//	keys.go     keys, their history, and transactions
//	watch.go    watches and leases
//	tls.go      certificates
//	real.go     a real one, where there is one
package etcdtest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"
)

// Fault is what a member does wrong.
type Fault int

// A member is well, or has one of these faults.
const (
	Well   Fault = iota
	Frozen       // it takes requests and answers none; its watches say nothing
	Loses        // it carries requests out, and the answers get lost
	Alone        // it knows no leader
	Full         // it takes no new keys
)

// Cluster is an etcd. Make it with [New].
type Cluster struct {
	now func() time.Time

	mu        sync.Mutex
	id        uint64
	revision  int64
	compacted int64
	history   []change // all changes, in their order
	leases    map[int64]*lease
	changed   chan struct{} // closed at each change
	user      string        // "name:password"; "" asks for none
	token     string
	writes    int
}

// New makes a cluster without keys.
func New() *Cluster {
	return &Cluster{now: time.Now, id: 7, revision: 1, leases: map[int64]*lease{}, changed: make(chan struct{})}
}

// Member is an endpoint of a cluster.
type Member struct {
	URL     string
	cluster *Cluster
	server  *httptest.Server

	mu    sync.Mutex
	fault Fault
	ended chan struct{} // closed when the fault changes
}

// Start starts a member. Its owner calls [Member.Close].
func (c *Cluster) Start() *Member {
	m := c.member()
	m.server = httptest.NewServer(m)
	m.URL = m.server.URL
	return m
}

func (c *Cluster) member() *Member { return &Member{cluster: c, ended: make(chan struct{})} }

// Close ends the member, and its connections.
func (m *Member) Close() {
	m.Set(Well)
	m.server.CloseClientConnections()
	m.server.Close()
}

// Set gives the member a fault, or none.
func (m *Member) Set(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = f
	close(m.ended)
	m.ended = make(chan struct{})
}

// state returns the member's fault, and what is closed when that changes.
func (m *Member) state() (Fault, chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fault, m.ended
}

// AskFor makes the cluster ask for a user: "name:password".
func (c *Cluster) AskFor(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user, c.token = user, "first"
}

// ForgetTokens makes all tokens void, as a restart of a member does.
func (c *Cluster) ForgetTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token += "+"
}

// Snapshot returns the cluster as it is, for [Cluster.Restore].
func (c *Cluster) Snapshot() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, err := json.Marshal(c.history)
	if err != nil {
		panic(err) // it is made of strings and numbers
	}
	return b
}

// Restore makes the cluster what it was. It has another ID then, or the same.
func (c *Cluster) Restore(snapshot []byte, sameID bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.history = nil
	if err := json.Unmarshal(snapshot, &c.history); err != nil {
		panic(err)
	}
	if !sameID {
		c.id++
	}
	c.revision = 1
	if n := len(c.history); n > 0 {
		c.revision = c.history[n-1].Revision
	}
	c.tellLocked()
}

// Writes returns how many transactions have changed something.
func (c *Cluster) Writes() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

func (c *Cluster) tellLocked() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// failure is an answer that says no.
type failure struct {
	status, code int
	message      string
}

// ServeHTTP implements http.Handler.
func (m *Member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fault, ended := m.state()
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		answer(w, nil, &failure{400, 3, err.Error()})
		return
	}
	hang := func() {
		select {
		case <-r.Context().Done():
		case <-ended:
		}
	}
	switch {
	case fault == Frozen:
		hang()
		return
	case fault == Alone:
		answer(w, nil, &failure{503, 14, "etcdserver: no leader"})
		return
	case r.URL.Path == "/v3/watch":
		m.watch(w, r, in.Create)
		return
	}
	out, failed := m.cluster.serve(r, &in, fault)
	if fault == Loses {
		hang()
		return
	}
	answer(w, out, failed)
}

func answer(w http.ResponseWriter, out any, failed *failure) {
	w.Header().Set("Content-Type", "application/json")
	if failed != nil {
		w.WriteHeader(failed.status)
		out = map[string]any{"error": failed.message, "message": failed.message, "code": failed.code}
	}
	json.NewEncoder(w).Encode(out)
}

// request is any request of the gateway.
type request struct {
	Key, Value       []byte
	End              []byte `json:"range_end"`
	Limit            int64  `json:"limit,string"`
	Revision         int64  `json:"revision,string"`
	MinRevision      int64  `json:"min_mod_revision,string"`
	KeysOnly         bool   `json:"keys_only"`
	Compare          []compare
	Success, Failure []op
	Create           createRequest `json:"create_request"`
	Name, Password   string
	ID               int64 `json:"ID,string"`
	TTL              int64 `json:"TTL,string"`
}

func (c *Cluster) serve(r *http.Request, in *request, fault Fault) (any, *failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expireLocked()
	if r.URL.Path == "/v3/auth/authenticate" {
		if in.Name+":"+in.Password != c.user {
			return nil, &failure{400, 3, "etcdserver: authentication failed, invalid user ID or password"}
		}
		return map[string]any{"token": c.token}, nil
	}
	if c.user != "" && r.Header.Get("Authorization") != c.token {
		return nil, &failure{401, 16, "etcdserver: invalid auth token"}
	}
	switch strings.TrimPrefix(r.URL.Path, "/v3/") {
	case "kv/range":
		return c.rangeLocked(in)
	case "kv/txn":
		return c.txnLocked(in, fault)
	case "kv/compaction":
		c.compacted = in.Revision
		c.tellLocked()
		return map[string]any{"header": c.headerLocked()}, nil
	case "lease/grant":
		return c.grantLocked(in.TTL), nil
	case "lease/keepalive":
		return c.keepLocked(in.ID), nil
	case "lease/revoke":
		c.revokeLocked(in.ID)
		return map[string]any{"header": c.headerLocked()}, nil
	}
	return nil, &failure{404, 5, "Not Found"}
}

func (c *Cluster) headerLocked() header { return header{c.id, c.revision} }

type header struct {
	Cluster  uint64 `json:"cluster_id,string"`
	Revision int64  `json:"revision,string"`
}

// Compact makes the cluster forget changes up to now.
func (c *Cluster) Compact() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.compacted = c.revision
	c.tellLocked()
}
