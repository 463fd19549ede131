//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/pause"
)

// contenders is how many want the same token, or name.
const contenders = 5

// meant reports how an operation ended that a hub was asked for: a refusal is an answer, and everything else may have happened.
func meant(err error) outcome {
	var refused *answer.Error
	switch {
	case err == nil:
		return ok
	case errors.As(err, &refused) && refused.Code != answer.Timeout && refused.Code != answer.Internal:
		return failed
	}
	return unknown
}

// tokens has devices fight for tokens, through all hubs.
func (r *rig) tokens(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		now := time.Now()
		token, err := r.ca.NewToken("guest", r.agents[n%2].id, now, now.Add(time.Hour))
		if err != nil {
			r.log.check("I1", false, "no token: %v", err)
			return
		}
		var mu sync.Mutex
		won, asked := map[identity.ID]bool{}, 0
		var all sync.WaitGroup
		for i := range contenders {
			hub := r.hubs[i%len(r.hubs)]
			all.Go(func() {
				start := time.Now()
				ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
				defer cancel()
				id, err := r.redeem(ctx, r.address(hub, hubPort), token, fmt.Sprintf("guest-%d-%d", n, i))
				r.log.add("redeem", fmt.Sprintf("token %d at %s", n, hub.name), start, meant(err), text(err))
				mu.Lock()
				defer mu.Unlock()
				asked++
				won[id] = won[id] || err == nil
			})
		}
		all.Wait()
		winners := 0
		for _, w := range won {
			if w {
				winners++
			}
		}
		r.log.check("I1", winners <= 1, "token %d was redeemed by %d keys", n, winners)
		pause.For(ctx, time.Second)
	}
}

// names has members fight for names, each at a hub of its own.
func (r *rig) names(ctx context.Context) {
	var fighters []*member
	for range contenders {
		m, err := r.newMember("fighter")
		if err != nil {
			r.log.check("I2", false, "no member: %v", err)
			return
		}
		fighters = append(fighters, m)
	}
	for n := 0; ctx.Err() == nil; n++ {
		r.fight(ctx, fighters, fmt.Sprint("prize-", n))
	}
}

// fight has each member claim a name, and stay where it is for a while. Hubs that share a store give it to one. Hubs that have links
// alone may give it to several, and come to the same end once they have told each other.
func (r *rig) fight(ctx context.Context, fighters []*member, name string) {
	ctx, cancel := context.WithTimeout(ctx, r.slack(4*time.Second))
	defer cancel()
	start := time.Now()
	var mu sync.Mutex
	ended := map[outcome][]identity.ID{}
	var claims, stays sync.WaitGroup
	for i, m := range fighters {
		hub := r.hubs[i%len(r.hubs)]
		claims.Add(1)
		stays.Go(func() {
			o, s := r.contend(ctx, m, hub, name)
			mu.Lock()
			ended[o] = append(ended[o], m.id)
			mu.Unlock()
			claims.Done()
			if s != nil {
				s.Events(ctx, func(tunnel.Event) {})
				s.Close()
			}
		})
	}
	claims.Wait()
	calm := r.world.calm(start, time.Now())
	if calm && len(r.etcds) > 0 {
		r.log.check("I2", len(ended[ok]) <= 1, "%s was given to %v", name, ended[ok])
	}
	pause.For(ctx, r.slack(3*time.Second))
	r.compareHolders(ctx, fighters[0], name, ended[failed], func() bool { return calm && r.world.calm(start, time.Now()) })
	stays.Wait()
}

// contend claims a name at a hub. The session is nil if there is none.
func (r *rig) contend(ctx context.Context, m *member, hub *node, name string) (outcome, *tunnel.Session) {
	start := time.Now()
	s, err := m.control(ctx, r.address(hub, hubPort))
	if err == nil {
		err = m.register(ctx, s, name)
	}
	o := meant(err)
	r.log.add("claim", name+" at "+hub.name, start, o, text(err))
	return o, s
}

// compareHolders asks all hubs who has a name: the same everywhere, if all was calm, and nobody who was refused it. A hub that is cut
// off from the store, and from other hubs as well, cannot know.
func (r *rig) compareHolders(ctx context.Context, m *member, name string, refused []identity.ID, calm func() bool) {
	holders := map[identity.ID]string{}
	for _, h := range r.hubs {
		holder, err := r.holder(ctx, m, h, name)
		if err != nil {
			continue // it is away
		}
		r.log.check("I12", !slices.Contains(refused, holder), "%s was refused the name %s, and has it at %s", holder, name, h.name)
		if holder != "" || r.hears(h) {
			holders[holder] = h.name
		}
	}
	if calm() { // while they were asked, too: one that was frozen answers as it comes back
		r.log.check("I2", len(holders) <= 1, "%s is held by %v", name, holders)
	}
}

// hears reports whether a hub reaches all other hubs, or a member of the store.
func (r *rig) hears(h *node) bool {
	reaches := func(n *node) bool { return n == h || r.world.together(h.name, n.name) }
	return slices.ContainsFunc(r.etcds, reaches) || !slices.ContainsFunc(r.hubs, func(n *node) bool { return !reaches(n) })
}

// holder returns who has a name at a hub; "" for nobody.
func (r *rig) holder(ctx context.Context, m *member, h *node, name string) (identity.ID, error) {
	s, err := m.control(context.WithoutCancel(ctx), r.address(h, hubPort))
	if err != nil {
		return "", err
	}
	defer s.Close()
	var page tunnel.Page
	if err := s.Call(context.WithoutCancel(ctx), http.MethodGet, tunnel.PathEndpoints, url.Values{"name": {name}}, nil, &page); err != nil || len(page.Entries) == 0 {
		return "", err
	}
	rec, _, err := m.verifier.Record(page.Entries[0].Record)
	return rec.ID, err
}

// evictions evicts users, two at once by the two root endpoints, so that there are two lists, and then looks that no hub lets them in.
func (r *rig) evictions(ctx context.Context) {
	for n := 0; pause.For(ctx, 5*time.Second); n++ {
		var both sync.WaitGroup
		for i, by := range r.agents[:2] {
			both.Go(func() { r.evict(ctx, fmt.Sprintf("suspect-%d-%d", n, i), by.name) })
		}
		both.Wait()
	}
}

// evict evicts a user. A command that has failed may have evicted all the same.
func (r *rig) evict(ctx context.Context, user, by string) {
	m, err := r.newMember(user)
	if err != nil {
		r.log.check("I3", false, "no member: %v", err)
		return
	}
	start := time.Now()
	if err := r.command(ctx, by, "evict", user, "--force"); err != nil {
		r.log.add("evict", user+" by "+by, start, unknown, text(err))
		return
	}
	r.log.add("evict", user+" by "+by, start, ok, "")
	r.mu.Lock()
	r.evicted = append(r.evicted, user)
	r.mu.Unlock()
	r.stayOut(ctx, m, user, by)
}

// stayOut looks, some seconds later, that hubs which could hear of an eviction refuse its user.
func (r *rig) stayOut(ctx context.Context, m *member, user, by string) {
	begin := time.Now()
	if !pause.For(ctx, r.slack(5*time.Second)) || !r.world.calm(begin, time.Now()) {
		return
	}
	for _, h := range r.hubs {
		if !r.world.together(by, h.name) {
			continue
		}
		s, err := m.control(ctx, r.address(h, hubPort))
		if err == nil {
			err = m.register(ctx, s, "intruder")
			s.Close()
		}
		if !r.world.calm(begin, time.Now()) {
			return
		}
		r.log.check("I3", err != nil, "%s lets %s in, whom %s evicted %v before", h.name, user, by, time.Since(begin).Round(time.Second))
	}
}

// lists reads the trust lists of all hubs, and compares them with those before.
func (r *rig) lists(ctx context.Context) {
	m, err := r.newMember("reader")
	if err != nil {
		r.log.check("I3", false, "no member: %v", err)
		return
	}
	last := map[string]*identity.Trust{}
	for pause.For(ctx, 2*time.Second) {
		for _, h := range r.hubs {
			list, err := r.list(ctx, m, h)
			if err != nil || list == nil {
				continue // it is away
			}
			if old := last[h.name]; old != nil {
				r.log.check("I3", list.Holds(old), "the list of %s has forgotten evictions: %d of %d are left", h.name, len(list.Evictions()), len(old.Evictions()))
				r.log.check("I4", list.Newest() == old.Newest(), "%s has another CA", h.name)
			}
			last[h.name] = list
		}
	}
}

// list reads the trust list of a hub.
func (r *rig) list(ctx context.Context, m *member, h *node) (*identity.Trust, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s, err := m.control(ctx, r.address(h, hubPort))
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var doc []byte
	if err := s.Call(ctx, http.MethodGet, tunnel.PathTrust, nil, nil, &doc); err != nil || len(doc) == 0 {
		return nil, err
	}
	return identity.ParseTrust(r.caPEM, doc)
}

// listing returns the endpoints that a hub lists, with the IDs that have their names, and which of them it says are online.
func (r *rig) listing(ctx context.Context, m *member, h *node) (names map[string]identity.ID, online map[string]bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	s, err := m.control(ctx, r.address(h, hubPort))
	if err != nil {
		return nil, nil, err
	}
	defer s.Close()
	names, online = map[string]identity.ID{}, map[string]bool{}
	for offset := 0; ; {
		var page tunnel.Page
		if err := s.Call(ctx, http.MethodGet, tunnel.PathEndpoints, url.Values{"offset": {fmt.Sprint(offset)}}, nil, &page); err != nil {
			return nil, nil, err
		}
		for _, e := range page.Entries {
			rec, _, err := m.verifier.Record(e.Record)
			if err != nil {
				return nil, nil, err
			}
			r.log.check("I2", names[rec.Name] == "", "%s lists the name %s twice", h.name, rec.Name)
			names[rec.Name], online[rec.Name] = rec.ID, e.Online
		}
		if offset += len(page.Entries); !page.More || len(page.Entries) == 0 {
			return names, online, nil
		}
	}
}
