package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/h2"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/tuning"
)

// Attacks of a hub on what agents believe: who is evicted, and whom they talk to.

// online connects a member to the false hub, and answers who asks for it with answer; nil: nobody does.
func (h *falseHub) online(ctx context.Context, user string, answer func(context.Context, *member, tunnel.Event)) (*member, error) {
	a, err := h.m.newMember(user)
	if err != nil {
		return nil, err
	}
	a.session, err = tunnel.Open(ctx, &tunnel.Dialer{}, h.address, a.verifier.ClientConfig(a.cert, identity.RoleHub, "", tunnel.ControlProto))
	if err != nil || answer == nil {
		return a, err
	}
	go a.session.Events(ctx, func(e tunnel.Event) { // ends with ctx
		if e.Type == tunnel.EventDialBack {
			go answer(ctx, a, e)
		}
	})
	return a, nil
}

// reach pings an endpoint through the false hub.
func (a *member) reach(ctx context.Context, target identity.ID) error {
	once, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := a.session.Relay(once, target, "")
	if err != nil {
		return err
	}
	s, err := seal.Client(once, c, a.verifier, a.cert, target)
	if err != nil {
		return err
	}
	defer s.Close()
	req, err := http.NewRequestWithContext(once, http.MethodGet, "http://peer"+seal.PathPing, nil)
	if err != nil {
		return err
	}
	resp, err := s.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// endpoint is the ID of the endpoint that has put a record with a name.
func (h *falseHub) endpoint(name string) (identity.ID, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, doc := range h.records {
		var signed struct{ Payload identity.Record }
		if json.Unmarshal(doc, &signed) == nil && signed.Payload.Name == name {
			return identity.ID(id), nil
		}
	}
	return "", fmt.Errorf("%s has put no record", name)
}

// befriend starts another agent, "friend", that knows no hub but this one.
func (h *falseHub) befriend(ctx context.Context) error {
	friend, _, err := h.startAgent(ctx, "friend")
	h.friends = append(h.friends, friend)
	return err
}

// evictBob has the victim evict bob, who must not reach an endpoint from then on.
func (h *falseHub) evictBob(ctx context.Context, name string, timeout time.Duration) (t tally, err error) {
	bob, err := h.online(ctx, exitUser, nil)
	if err != nil {
		return t, err
	}
	target, err := h.endpoint(name)
	if err != nil {
		return t, err
	}
	if err := bob.reach(ctx, target); err != nil {
		return t, fmt.Errorf("before the eviction: %w", err)
	}
	if err := h.m.command(ctx, "evict", exitUser, "--force", "--data", h.data); err != nil {
		return t, err
	}
	for known := time.Now().Add(timeout); ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		if reached := bob.reach(ctx, target) == nil && ctx.Err() == nil; reached && time.Now().After(known) {
			t.LetIn++
		}
		t.Tried++
	}
	return t, nil
}

// vetoEviction answers 500 to the trust list with which bob is evicted. Bob must be out all the same.
func vetoEviction(ctx context.Context, m *mesh) (t tally, err error) {
	h, err := newFalseHub(ctx, m, func(h *falseHub) { h.trust = http.StatusInternalServerError })
	if err != nil {
		return t, err
	}
	defer h.close()
	return h.evictBob(ctx, "victim", 0)
}

// withholdEviction takes the list with which bob is evicted and gives it to nobody. A friend of the victim, whom it talks to, hears of it
// from the victim.
func withholdEviction(ctx context.Context, m *mesh) (t tally, err error) {
	h, err := newFalseHub(ctx, m, func(*falseHub) {})
	if err != nil {
		return t, err
	}
	defer h.close()
	if err := h.befriend(ctx); err != nil {
		return t, err
	}
	if err := m.command(ctx, "ping", "ep", "friend", "--data", h.data); err != nil {
		return t, err
	}
	return h.evictBob(ctx, "friend", time.Second)
}

// replayTrust says again and again that there is another trust list, and shows the one from before the eviction of bob.
func replayTrust(ctx context.Context, m *mesh) (t tally, err error) {
	old, err := identity.NewTrust(m.caPEM)
	if err != nil {
		return t, err
	}
	if old, err = old.Evict(m.ca, "somebody", time.Now()); err != nil {
		return t, err
	}
	var shown atomic.Int64
	h, err := newFalseHub(ctx, m, func(h *falseHub) {
		h.lists = func(w http.ResponseWriter) {
			shown.Add(1)
			w.Write(old.Document())
		}
		h.event = func(life context.Context, send func(tunnel.Event)) {
			for version := uint64(1); life.Err() == nil && ctx.Err() == nil; version += 7 {
				send(tunnel.Event{Type: tunnel.EventTrust, Version: version})
				pause(life, 50*time.Millisecond)
			}
		}
	})
	if err != nil {
		return t, err
	}
	defer h.close()
	t, err = h.evictBob(ctx, "victim", 0)
	t.Note = fmt.Sprintf("the old list was shown %d times", shown.Load())
	if shown.Load() == 0 {
		t.Tried = 0
	}
	return t, err
}

// swapPaths joins everybody who asks for an endpoint with a member of its own, who answers everything. Nobody may take that member for
// the endpoint.
func swapPaths(ctx context.Context, m *mesh) (t tally, err error) {
	var impostor atomic.Pointer[member]
	h, err := newFalseHub(ctx, m, func(h *falseHub) {
		h.swap = func(asked identity.ID) identity.ID {
			if a := impostor.Load(); a != nil {
				return a.id
			}
			return asked
		}
	})
	if err != nil {
		return t, err
	}
	defer h.close()
	if err := h.befriend(ctx); err != nil {
		return t, err
	}
	var asked, believed atomic.Int64
	says := h2.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		believed.Add(1)
		w.WriteHeader(http.StatusNoContent)
	}), tuning.Hub)
	defer says.Close()
	a, err := h.online(ctx, attacker, func(ctx context.Context, a *member, e tunnel.Event) {
		asked.Add(1)
		c, err := a.session.Relay(ctx, a.id, e.Ticket)
		if err != nil {
			return
		}
		if in, err := seal.Server(ctx, c, a.verifier, func() tls.Certificate { return a.cert }, nil); err == nil && in.Session != nil {
			says.Serve(&h2.Tagged{Conn: in.Session, Tag: a.id})
		}
	})
	if err != nil {
		return t, err
	}
	impostor.Store(a)
	for ctx.Err() == nil {
		if m.command(ctx, "ping", "ep", "friend", "--data", h.data) == nil {
			t.LetIn++
		}
		pause(ctx, 100*time.Millisecond)
	}
	t.Tried, t.LetIn = int(asked.Load()), t.LetIn+int(believed.Load())
	return t, nil
}

// endlessBodies answers every request with a body that does not end. The victim's own user must still get answers.
func endlessBodies(ctx context.Context, m *mesh) (t tally, err error) {
	h, err := newFalseHub(ctx, m, func(*falseHub) {})
	if err != nil {
		return t, err
	}
	defer h.close()
	h.flood.Store(true)
	grown := h.grown(func() {
		for i := 0; ctx.Err() == nil; i++ {
			start := time.Now()
			m.output(ctx, [][]string{
				{"get", "ep", "--data", h.data}, {"get", "hub", "--data", h.data}, {"get", "user", "--data", h.data}, {"evict", exitUser, "--data", h.data},
			}[i%4]...)
			if took := time.Since(start); took > 15*time.Second {
				t.LetIn++
				t.Note = fmt.Sprintf("a command took %v, ", took)
			}
			t.Tried++
			pause(ctx, 100*time.Millisecond)
		}
	})
	t.LetIn += over(grown)
	t.Note += fmt.Sprintf("victim %+.1f MB", mb(grown))
	return t, nil
}

// answerForever sends a body of valid JSON without its end.
func (h *falseHub) answerForever(w http.ResponseWriter) {
	some := bytes.Repeat([]byte(`{"name":"x"},`), 5000)
	w.Write([]byte("["))
	for {
		if _, err := w.Write(some); err != nil {
			return
		}
	}
}
