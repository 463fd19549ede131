package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

// keeper is an app that keeps something for each peer that asks, until the peer has left.
type keeper struct {
	mu      sync.Mutex
	kept    map[apps.Peer]bool
	running int // flows
}

func (k *keeper) Name() string                  { return "keeper" }
func (k *keeper) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (k *keeper) API() http.Handler             { return http.NotFoundHandler() }

func (k *keeper) Serve(ctx context.Context, f apps.Flow) {
	switch f.Path() {
	case "refuse":
		f.Refuse(answer.Errorf(answer.Denied, "no"))
		return
	case "fail":
		f.Refuse(errors.New(strings.Repeat("long ", 1000)))
		return
	}
	k.add(1, f.Peer())
	if _, err := f.Accept(); err != nil {
		return
	}
	<-ctx.Done()
	k.add(-1, f.Peer()) // also what an app begins when the peer was cut off already must not stay
}

func (k *keeper) add(flows int, p apps.Peer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running += flows
	k.kept[p] = true
}

func (k *keeper) Left(gone func(apps.Peer) bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.kept {
		if gone(p) {
			delete(k.kept, p)
		}
	}
}

// users lists for whom something is kept, and counts the flows.
func (k *keeper) users() (map[string]int, int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	users := map[string]int{}
	for p := range k.kept {
		users[p.User]++
	}
	return users, k.running
}

func TestAnAppIsToldWhoHasLeft(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	k := &keeper{kept: map[apps.Peer]bool{}}
	w.options.Apps = []apps.Kind{{Name: "keeper", New: func(apps.Host) apps.App { return k }}}
	w.join("bob", "bob")
	w.options.Apps = nil
	bob := w.endpoint("ep-bob")
	for _, user := range []string{"eve", "ann"} {
		i := w.intruder(user)
		if _, status := i.flow(t, i.session(t, bob.ID), "keeper/x", ""); status != http.StatusOK {
			t.Fatalf("the flow of %s was refused: %d", user, status)
		}
	}
	if users, flows := k.users(); users["eve"] != 1 || users["ann"] != 1 || flows != 2 {
		t.Fatalf("kept for %v, with %d flows", users, flows)
	}

	w.ztm("root", "evict", "eve", "--force") // the directory does not know eve
	appstest.Eventually(t, "what was kept for the evicted user is gone, with the flow", func() bool {
		users, flows := k.users()
		return users["eve"] == 0 && flows == 1
	})
	if users, _ := k.users(); users["ann"] != 1 {
		t.Errorf("kept for %v: another user lost what was kept", users)
	}
}
