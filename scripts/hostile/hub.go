package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ztm/scripts/process"
	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/relaytest"
	"ztm/tunnel/tuning"
	"ztm/tunnel/unixtime"
)

// hubs are attacks of a hub that was taken over: it has its key and its certificate, and everything passes through it. The victim is an
// agent of its own beside the mesh, of the user root; the figures of the honest pair are there to show that the machine was free.
var hubs = []attack{
	{"hub", "a directory without an end", endlessDirectory},
	{"hub", "records that nobody signed", forgedRecords},
	{"hub", "events as fast as they go", floodEvents},
	{"hub", "does not take an eviction", vetoEviction},
	{"hub", "takes an eviction and tells nobody", withholdEviction},
	{"hub", "shows a trust list from before an eviction", replayTrust},
	{"hub", "joins paths with another endpoint than asked for", swapPaths},
	{"hub", "answers without an end", endlessBodies},
	{"hub", "takes requests and does not answer", mute},
}

// falseHub is a hub that does what it likes. It relays by streams of the control sessions.
type falseHub struct {
	m        *mesh
	id       identity.ID
	address  string
	key      ed25519.PrivateKey
	cert     tls.Certificate
	verifier *identity.Verifier
	ln       net.Listener
	server   *h2.Server
	victim   *process.Process
	data     string // directory of the victim
	friends  []*process.Process

	list  func(w http.ResponseWriter)                        // answers a listing; nil: who is here
	event func(ctx context.Context, send func(tunnel.Event)) // after ready; nil: nothing
	trust int                                                // status for POST of a trust list
	lists func(w http.ResponseWriter)                        // answers GET of the trust list; nil: there is none
	swap  func(identity.ID) identity.ID                      // whom who asks for an endpoint gets; nil: that one
	mute  atomic.Bool
	flood atomic.Bool // all answers are without an end

	streams *relaytest.Streams
	mu      sync.Mutex
	records map[string][]byte // guarded by mu
}

// newFalseHub starts one with a victim that is connected to it.
func newFalseHub(ctx context.Context, m *mesh, change func(*falseHub)) (*falseHub, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	public := key.Public().(ed25519.PublicKey)
	der, err := m.ca.SignHub(public, time.Now())
	if err != nil {
		return nil, err
	}
	h := &falseHub{m: m, id: identity.IDOf(public), key: key, cert: identity.TLSCertificate(der, key), verifier: m.honest.verifier, trust: 200,
		records: map[string][]byte{}, streams: relaytest.New()}
	change(h)
	if h.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	h.address = h.ln.Addr().String()
	h.server = h2.NewServer(h, tuning.Hub)
	go h.accept() // ends with the listener
	if err := h.startVictim(ctx); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

func (h *falseHub) close() {
	for _, p := range append(h.friends, h.victim) {
		if p != nil {
			p.End(10 * time.Second)
		}
	}
	h.ln.Close()
	h.server.Close()
}

func (h *falseHub) startVictim(ctx context.Context) (err error) {
	h.victim, h.data, err = h.startAgent(ctx, "victim")
	return err
}

// startAgent starts an agent of user root that has joined, and knows this hub alone.
func (h *falseHub) startAgent(ctx context.Context, name string) (p *process.Process, data string, err error) {
	b, err := os.ReadFile(filepath.Join(h.m.Dir, "root.json"))
	if err != nil {
		return nil, "", err
	}
	permit := filepath.Join(h.m.Dir, name+".json")
	if err := os.WriteFile(permit, []byte(strings.ReplaceAll(string(b), h.m.hub, h.address)), 0o600); err != nil {
		return nil, "", err
	}
	data = filepath.Join(h.m.Dir, name)
	if p, err = h.m.Start(name, h.m.ztm, "run", "agent", "--data", data); err != nil {
		return nil, "", err
	}
	return p, data, process.Until(ctx, name+" joins", 20*time.Second, func() error {
		return h.m.command(ctx, "join", "demo", "--as", name, "--permit", permit, "--data", data)
	})
}

// accept takes control sessions alone: agents then ask for paths as streams of them.
func (h *falseHub) accept() {
	for {
		c, err := h.ln.Accept()
		if err != nil {
			return
		}
		go func() { // ends with the connection
			secured := tls.Server(c, h.verifier.ServerConfig(func() tls.Certificate { return h.cert }, tunnel.ControlProto))
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if secured.HandshakeContext(ctx) != nil {
				c.Close()
				return
			}
			peer, err := h.verifier.Subject(secured.ConnectionState(), identity.RoleMember)
			if err != nil {
				c.Close()
				return
			}
			h.server.Serve(&h2.Tagged{Conn: secured, Tag: peer.ID})
		}()
	}
}

// ServeHTTP is the control API, as far as an agent asks for it.
func (h *falseHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h.mute.Load() {
		<-r.Context().Done()
		return
	}
	if h.flood.Load() && r.Method != http.MethodConnect && r.URL.Path != tunnel.PathEvents {
		h.answerForever(w)
		return
	}
	switch path := r.URL.Path; {
	case r.Method == http.MethodConnect:
		if h.swap != nil && r.Header.Get(tunnel.FieldTicket) == "" {
			r.Host = string(h.swap(identity.ID(r.Host)))
		}
		h.streams.Connect(w, r)
	case path == tunnel.PathHub:
		json.NewEncoder(w).Encode(tunnel.HubStatus{ID: h.id, Version: "hostile", Since: time.Now(), Names: []string{h.address}})
	case path == tunnel.PathEvents:
		h.streams.Events(w, r, h.event)
	case path == tunnel.PathTrust && r.Method == http.MethodPost:
		w.WriteHeader(h.trust)
	case path == tunnel.PathTrust && h.lists != nil:
		h.lists(w)
	case path == tunnel.PathTrust:
		w.WriteHeader(http.StatusNoContent)
	case path == tunnel.PathEndpoints && h.list != nil:
		h.list(w)
	case path == tunnel.PathEndpoints:
		h.listAll(w)
	case r.Method == http.MethodPut:
		h.put(w, r)
	case strings.HasPrefix(path, tunnel.PathEndpoints+"/"):
		h.get(w, strings.TrimPrefix(path, tunnel.PathEndpoints+"/"))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (h *falseHub) put(w http.ResponseWriter, r *http.Request) {
	doc, err := io.ReadAll(io.LimitReader(r.Body, tunnel.MaxBody))
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.records[strings.TrimPrefix(r.URL.Path, tunnel.PathEndpoints+"/")] = doc
}

func (h *falseHub) get(w http.ResponseWriter, id string) {
	h.mu.Lock()
	doc, ok := h.records[id]
	h.mu.Unlock()
	if !ok {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	json.NewEncoder(w).Encode(tunnel.Entry{Record: doc, Online: true, Seen: unixtime.Of(time.Now())})
}

func (h *falseHub) listAll(w http.ResponseWriter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var page tunnel.Page
	for _, doc := range h.records {
		page.Entries = append(page.Entries, tunnel.Entry{Record: doc, Online: true, Seen: unixtime.Of(time.Now())})
	}
	json.NewEncoder(w).Encode(page)
}

// grown is how much the victim has grown, in bytes, while f ran.
func (h *falseHub) grown(f func()) (peak int64) {
	before, _ := h.victim.Memory()
	f()
	_, most := h.victim.Memory()
	return most - before
}

// endlessDirectory answers each listing with a full page and the word that there is more, of one endpoint again and again.
func endlessDirectory(ctx context.Context, m *mesh) (t tally, err error) {
	var pages atomic.Int64
	h, err := newFalseHub(ctx, m, func(h *falseHub) {
		h.list = func(w http.ResponseWriter) {
			pages.Add(1)
			h.mu.Lock()
			defer h.mu.Unlock()
			page := tunnel.Page{More: true}
			for _, doc := range h.records {
				for range tunnel.PageSize {
					page.Entries = append(page.Entries, tunnel.Entry{Record: doc, Online: true})
				}
			}
			json.NewEncoder(w).Encode(page)
		}
	})
	if err != nil {
		return t, err
	}
	defer h.close()
	grown := h.grown(func() {
		start := time.Now()
		m.output(ctx, "get", "ep", "--data", h.data)
		t.Note = fmt.Sprintf("get ep ended after %.1f s", time.Since(start).Seconds())
		if time.Since(start) > 10*time.Second {
			t.LetIn++
		}
	})
	t.Tried, t.LetIn = int(pages.Load()), t.LetIn+over(grown)
	t.Note += fmt.Sprintf(", victim %+.1f MB", mb(grown))
	return t, nil
}

// over is 1 for an agent that grew too much.
func over(grown int64) int {
	if grown > mostAgent {
		return 1
	}
	return 0
}

// forgedRecords lists endpoints under the IDs of others, signed by a key of its own, and by nobody.
func forgedRecords(ctx context.Context, m *mesh) (t tally, err error) {
	const name = "forged"
	h, err := newFalseHub(ctx, m, func(h *falseHub) {
		h.list = func(w http.ResponseWriter) {
			record := identity.Record{ID: m.exit, Name: name, Version: "hostile", Time: unixtime.MillisOf(time.Now()), Certificate: h.cert.Certificate[0]}
			own := sign(record, h.key)
			record.ID, record.Certificate = m.honest.id, m.honest.cert.Certificate[0]
			other := sign(record, h.key)
			var page tunnel.Page
			for _, doc := range [][]byte{own, other, []byte(`{"payload":{"name":"forged"},"signature":""}`)} {
				page.Entries = append(page.Entries, tunnel.Entry{Record: doc, Online: true})
			}
			json.NewEncoder(w).Encode(page)
		}
	})
	if err != nil {
		return t, err
	}
	defer h.close()
	for ctx.Err() == nil {
		t.Tried++
		out, _ := m.output(ctx, "get", "ep", "--data", h.data, "-o", "json")
		t.LetIn += strings.Count(string(out), name)
		pause(ctx, 200*time.Millisecond)
	}
	return t, nil
}

// sign makes a signed document of a record, whoever's key it is (docs/protocol.md section 2).
func sign(record identity.Record, key ed25519.PrivateKey) []byte {
	payload, err := json.Marshal(record)
	if err != nil {
		return nil
	}
	doc, _ := json.Marshal(map[string]any{"payload": json.RawMessage(payload),
		"signature": ed25519.Sign(key, append([]byte("ztm endpoint record v1\x00"), payload...))})
	return doc
}

// mostVictimLog is what a hub may cause in the log of an agent by events, in bytes, however many they are.
const mostVictimLog = 64 << 10

// floodEvents sends events without a pause. Afterwards the victim must still answer its own user.
func floodEvents(ctx context.Context, m *mesh) (t tally, err error) {
	var sent atomic.Int64
	h, err := newFalseHub(ctx, m, func(h *falseHub) {
		h.event = func(life context.Context, send func(tunnel.Event)) {
			for life.Err() == nil && ctx.Err() == nil {
				for range 100 {
					peer := identity.ID(strings.ToLower(rand.Text() + "aaaaaaaa")[:32])
					send(tunnel.Event{Type: tunnel.EventDialBack, Ticket: rand.Text(), Peer: peer})
					send(tunnel.Event{Type: tunnel.EventTrust, Version: uint64(sent.Load())})
					send(tunnel.Event{Type: tunnel.EventSign, Request: rand.Text(), Sign: &tunnel.SignRequest{Hub: true}})
					sent.Add(3)
				}
				pause(life, 10*time.Millisecond)
			}
		}
	})
	if err != nil {
		return t, err
	}
	defer h.close()
	grown := h.grown(func() {
		for ctx.Err() == nil {
			start := time.Now()
			_, err := m.output(ctx, "get", "mesh", "--data", h.data)
			if took := time.Since(start); ctx.Err() == nil && (err != nil || took > 2*time.Second) {
				t.LetIn++
				t.Note = fmt.Sprintf("its own user waited %v (%v), ", took, err)
			}
			pause(ctx, 200*time.Millisecond)
		}
	})
	t.Tried, t.LetIn = int(sent.Load()), t.LetIn+over(grown)
	log, err := os.Stat(filepath.Join(m.Dir, "victim.log"))
	if err != nil {
		return t, err
	}
	if log.Size() > mostVictimLog {
		t.LetIn++
	}
	t.Note += fmt.Sprintf("victim %+.1f MB, log %d KB", mb(grown), log.Size()>>10)
	return t, nil
}

// mute answers nothing any longer. The command line of the victim must come to an end.
func mute(ctx context.Context, m *mesh) (t tally, err error) {
	h, err := newFalseHub(ctx, m, func(*falseHub) {})
	if err != nil {
		return t, err
	}
	defer h.close()
	h.mute.Store(true)
	for ctx.Err() == nil {
		start := time.Now()
		m.output(ctx, "get", "ep", "--data", h.data)
		if took := time.Since(start); took > 15*time.Second {
			t.LetIn++
			t.Note = fmt.Sprintf("get ep took %v", took)
		}
		t.Tried++
		pause(ctx, 100*time.Millisecond)
	}
	return t, nil
}
