package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"ztm/agent/kube/asked"
	"ztm/agent/kube/cluster"
	"ztm/tunnel/pause"
)

const (
	eventBurst  = 25          // events that are written at once
	eventEvery  = time.Second // after which there may be one more
	maxPending  = 1000        // events that wait; what is beyond is told when it is due again
	maxMessage  = 1000        // bytes; the API server takes 1024
	kubeMessage = "ztm"
)

// events tells Services what happened to them. Each note is written once, and its name is made of
// its content: of two replicas that write it the second is told that it is there.
type events struct {
	client *cluster.Client
	log    *slog.Logger

	mu      sync.Mutex
	known   map[string]bool // names of the notes that hold now
	pending []*asked.Note
	wake    chan struct{}
}

func newEvents(c *cluster.Client, log *slog.Logger) *events {
	return &events{client: c, log: log, known: map[string]bool{}, wake: make(chan struct{}, 1)}
}

// tell makes notes those that hold now. New ones are written.
func (e *events) tell(notes []*asked.Note) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := make(map[string]bool, len(notes))
	for _, n := range notes {
		if n.Service.UID == "" {
			continue // the Service is gone
		}
		name := eventName(n)
		if !e.known[name] && !now[name] {
			if len(e.pending) >= maxPending {
				continue
			}
			e.pending = append(e.pending, n)
		}
		now[name] = true
	}
	e.known = now
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run writes what is pending, until ctx ends.
func (e *events) run(ctx context.Context) {
	pace := bucket{credit: eventBurst, since: time.Now()}
	for {
		select {
		case <-e.wake:
		case <-ctx.Done():
			return
		}
		for n, ok := e.next(); ok; n, ok = e.next() {
			if !pace.take(ctx) {
				return
			}
			e.write(ctx, n)
		}
	}
}

// bucket lets [eventBurst] pass at once, and one more each [eventEvery].
type bucket struct {
	credit int
	since  time.Time // when the credit was counted
}

// take waits until one may pass, and reports whether that came before the end of ctx.
func (b *bucket) take(ctx context.Context) bool {
	for {
		earned := int(time.Since(b.since) / eventEvery)
		b.credit, b.since = min(b.credit+earned, eventBurst), b.since.Add(time.Duration(earned)*eventEvery)
		if b.credit > 0 {
			b.credit--
			return true
		}
		if !pause.For(ctx, eventEvery-time.Since(b.since)) {
			return false
		}
	}
}

// next takes the first event that waits and still holds.
func (e *events) next() (n *asked.Note, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for len(e.pending) > 0 {
		n, e.pending = e.pending[0], e.pending[1:]
		if e.known[eventName(n)] {
			return n, true
		}
	}
	return nil, false
}

// event is an Event of the core group.
type event struct {
	Kind       string            `json:"kind"`
	APIVersion string            `json:"apiVersion"`
	Metadata   map[string]string `json:"metadata"`
	Object     map[string]string `json:"involvedObject"`
	Reason     string            `json:"reason"`
	Message    string            `json:"message"`
	Type       string            `json:"type"`
	First      time.Time         `json:"firstTimestamp"`
	Last       time.Time         `json:"lastTimestamp"`
	Count      int               `json:"count"`
	Source     map[string]string `json:"source"`
}

func (e *events) write(ctx context.Context, n *asked.Note) {
	s, now := n.Service, time.Now().UTC().Truncate(time.Second)
	in := event{
		Kind: "Event", APIVersion: "v1", Metadata: map[string]string{"name": eventName(n), "namespace": s.Namespace},
		Object: map[string]string{"kind": "Service", "apiVersion": "v1", "namespace": s.Namespace, "name": s.Name, "uid": s.UID},
		Reason: n.Reason, Message: short(n.Message), Type: "Normal", First: now, Last: now, Count: 1,
		Source: map[string]string{"component": kubeMessage},
	}
	if n.Warns() {
		in.Type = "Warning"
	}
	err := e.client.Do(ctx, http.MethodPost, "/api/v1/namespaces/"+s.Namespace+"/events", nil, "application/json", in, nil)
	if err != nil && cluster.CodeOf(err) != http.StatusConflict && ctx.Err() == nil {
		e.log.Warn("cannot write an event", "service", s.Namespace+"/"+s.Name, "reason", n.Reason, "message", in.Message, "err", err)
	}
}

func short(s string) string {
	return strings.ToValidUTF8(s[:min(len(s), maxMessage)], "")
}

// eventName is the same for the same words about the same object.
func eventName(n *asked.Note) string {
	sum := sha256.Sum256([]byte(n.Service.UID + "\x00" + n.Reason + "\x00" + n.Message))
	return n.Service.Name + "." + hex.EncodeToString(sum[:8])
}
