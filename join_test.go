package main

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/agent/api"
	"ztm/hub"
	"ztm/tunnel/identity"
)

// tokens lists the open tokens of an agent.
func (w *world) tokens(agent string) (all []api.Token) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.ztm(agent, "get", "token", "-o", "json")), &all); err != nil {
		w.t.Fatal(err)
	}
	return all
}

func (w *world) permit(name string) *identity.Permit {
	w.t.Helper()
	p, err := identity.ParsePermit([]byte(mustRead(w.t, w.path(name))))
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// contend has many devices ask for a certificate by one token at a time, and returns how many got
// one.
func (w *world) contend(p *identity.Permit, many int) (admitted int) {
	w.t.Helper()
	trust, err := identity.NewTrust([]byte(p.CA))
	if err != nil {
		w.t.Fatal(err)
	}
	v := identity.NewVerifier(trust, identity.NewClock())
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			if err := redeemOnce(w, v, p, "ep-"+string(rune('a'+i))); err == nil {
				mu.Lock()
				defer mu.Unlock()
				admitted++
			}
		})
	}
	wg.Wait()
	return admitted
}

func TestATokenIsRedeemedAsOftenAsItSaysAndNotMore(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("three.json"), "--uses", "3")
	if got := w.contend(w.permit("three.json"), 20); got != 3 {
		t.Errorf("of 20 devices at once %d joined by a token for 3", got)
	}
	w.ztm("root", "invite", "carol", "--permit", w.path("many.json"), "--uses", "9")
	w.contend(w.permit("many.json"), 2)
	open := w.tokens("root")
	if len(open) != 1 || open[0].User != "carol" || open[0].Left != 7 || open[0].Uses != 9 || open[0].ByName != "ep-root" || open[0].RedeemerName != "ep-root" {
		t.Fatalf("open tokens: %+v", open)
	}
	w.ztm("root", "revoke", "token", open[0].ID[:6])
	if got := w.contend(w.permit("many.json"), 2); got != 0 {
		t.Errorf("%d joined by a token that was revoked", got)
	}
	if open := w.tokens("root"); len(open) != 0 {
		t.Errorf("a token that was revoked is open: %+v", open)
	}
	if _, errs, status := w.try("root", "revoke", "token", "ffff"); status != 1 || !strings.Contains(errs, "get token") {
		t.Errorf("a token that is not there: %d, %s", status, errs)
	}
}

func TestAHubThatKeepsTheCARedeemsTokensByDefault(t *testing.T) {
	w := emptyWorld(t)
	w.startHub(hub.Config{KeepCA: true})
	stop := w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("two.json"), "--uses", "2")
	w.ztm("root", "invite", "bob", "--permit", w.path("void.json"))
	w.ztm("root", "invite", "bob", "--permit", w.path("root-only.json"), "--redeemer", "ep-root")
	if p := w.permit("root-only.json"); p.Token.Redeemer() != w.endpoint("ep-root").ID {
		t.Errorf("the redeemer is %s", p.Token.Redeemer())
	}
	w.ztm("root", "revoke", "token", w.permit("void.json").Token.ID())
	if got := w.contend(w.permit("two.json"), 1); got != 1 {
		t.Fatal("nobody joined")
	}
	for _, open := range w.tokens("root") {
		if open.ID == w.permit("two.json").Token.ID() && (open.Left != 1 || !strings.HasPrefix(open.RedeemerName, "hub ")) {
			t.Errorf("the token of the hub: %+v", open)
		}
	}
	stop() // the redeemer is the hub: it takes no endpoint of root
	if got := w.contend(w.permit("two.json"), 5); got != 1 {
		t.Errorf("%d joined where one use was left", got)
	}
	if got := w.contend(w.permit("void.json"), 1); got != 0 {
		t.Error("a revoked token was redeemed")
	}
}

// background runs a command line that waits, and returns its end.
func (w *world) running(agent string, args ...string) <-chan error {
	done := make(chan error, 1)
	go func() {
		if _, errs, status := w.try(agent, args...); status != 0 {
			done <- errors.New(errs)
		}
		close(done)
	}()
	return done
}

func TestADeviceIsToldWhatThePermitOfAHubIsFor(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.startAgent("bob")
	w.write("hub.pub", w.ztm("bob", "identity"))
	w.ztm("root", "invite", "--hub", "--identity", w.path("hub.pub"), "--name", "hub.test:1", "--permit", w.path("hub.json"))
	if _, errs, status := w.try("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("hub.json")); status != 1 || !strings.Contains(errs, "ztm run hub") {
		t.Errorf("status %d: %s", status, errs)
	}
}

func TestADeviceWaitsUntilItIsApproved(t *testing.T) {
	w := newWorld(t)
	stop := w.join("root", "root")
	for _, name := range []string{"good", "bad"} {
		w.ztm("root", "invite", "bob", "--permit", w.path(name+".json"), "--approve")
		w.startAgent(name)
	}
	good := w.running("good", "join", "demo", "--as", "ep-good", "--permit", w.path("good.json"))
	bad := w.running("bad", "join", "demo", "--as", "ep-bad", "--permit", w.path("bad.json"))
	waits := func() error {
		out := w.ztm("root", "get", "approval")
		if !strings.Contains(out, "ep-good") || !strings.Contains(out, "ep-bad") {
			return errors.New(out)
		}
		return nil
	}
	w.until("both wait", waits)
	stop() // whoever waits is not forgotten
	w.startAgent("root")
	w.connected("root")
	if err := waits(); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	w.ztm("root", "approve", "ep-bad", "--deny")
	w.ztm("root", "approve", "ep-good")
	if err := <-good; err != nil {
		t.Errorf("the device that was approved: %v", err)
	}
	if err := <-bad; err == nil || !strings.Contains(err.Error(), "not approved") || !strings.Contains(err.Error(), "waiting up to") {
		t.Errorf("the device that was denied: %v", err)
	}
	w.connected("good")
	if out := w.ztm("root", "get", "approval"); strings.Contains(out, "ep-good") {
		t.Errorf("the device that has joined waits still:\n%s", out)
	}
}

func TestAJoinWaitsForTheRedeemerAndSaysSo(t *testing.T) {
	w := newWorld(t)
	stop := w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("bob.json"))
	w.startAgent("bob")
	stop()
	w.until("the hub knows that the redeemer is away", func() error {
		_, errs, _ := w.try("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
		if !strings.Contains(errs, "ep-root") || !strings.Contains(errs, "--wait") {
			return errors.New(errs)
		}
		return nil
	})
	done := w.running("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"), "--wait", "1m")
	w.startAgent("root")
	if err := <-done; err != nil {
		t.Errorf("the join that waited: %v", err)
	}
}

// nextSecond waits until another second has begun: admissions count in seconds.
func (w *world) nextSecond() {
	w.t.Helper()
	began := time.Now().Unix()
	w.until("another second begins", func() error {
		if time.Now().Unix() == began {
			return errors.New("the same")
		}
		return nil
	})
}

func TestADeviceTakesItsNameBackAndTheOldOneIsTold(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	stop := w.join("old", "bob")
	old := w.endpoint("ep-old").ID
	w.nextSecond()
	w.startAgent("new")
	w.ztm("root", "invite", "bob", "--permit", w.path("new.json"))
	w.startAgent("eve")
	w.ztm("root", "invite", "eve", "--permit", w.path("eve.json"))
	if _, errs, status := w.try("new", "join", "demo", "--as", "ep-old", "--permit", w.path("new.json")); status != 1 || !strings.Contains(errs, "taken") {
		t.Errorf("while the old one is online: %d, %s", status, errs)
	}
	if _, errs, status := w.try("eve", "join", "demo", "--as", "ep-old", "--permit", w.path("eve.json"), "--replace"); status != 1 || !strings.Contains(errs, "taken") {
		t.Errorf("another user: %d, %s", status, errs)
	}
	stop()
	w.until("the old one is offline", func() error {
		if w.endpoint("ep-old").Online {
			return errors.New("online")
		}
		return nil
	})
	_, errs, status := w.try("new", "join", "demo", "--as", "ep-old", "--permit", w.path("new.json"))
	if status != 0 || !strings.Contains(errs, string(old)) {
		t.Errorf("the new one is not told whom it replaces: %d, %s", status, errs)
	}
	w.startAgent("old")
	w.until("the old one is told", func() error {
		if out := w.ztm("old", "get", "mesh"); !strings.Contains(out, "taken the place") {
			return errors.New(out)
		}
		return nil
	})
	if got := w.endpoint("ep-old").ID; got == old {
		t.Error("the old one has the name again")
	}
	w.startAgent("third") // and once more, though the second is online
	w.ztm("root", "invite", "bob", "--permit", w.path("third.json"))
	w.ztm("third", "join", "demo", "--as", "ep-old", "--permit", w.path("third.json"), "--replace")
	w.connected("third")
}

func TestTheKeyThatRedeemedATokenMayAskAgain(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("bob.json"))
	w.startAgent("bob")
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
	w.ztm("bob", "leave", "demo") // as if the answer had been lost
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
}
