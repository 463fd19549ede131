package hub

import (
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// patient takes as many requests as a test that waits makes.
func patient(c *Config) {
	c.requestRate, c.pageRate = limit.Rate{Burst: 1 << 20}, limit.Rate{Burst: 1 << 20}
}

func ephemeral(r *identity.Record) { r.Ephemeral = true }

func TestAnEphemeralEndpointGoesWhenItHasDisconnected(t *testing.T) {
	t.Parallel() // it waits, most of the time
	// Between its record and its events an endpoint is away: on a busy machine for some time.
	h := start(t, func(c *Config) { c.tidy, c.ephemeral = 10*time.Millisecond, 2*time.Second }, patient)
	alice := h.device("alice").online("a")
	pod := h.device("pods").online("pod-1", ephemeral)
	other := h.device("pods").online("laptop")
	pod.Session.Close()
	other.Session.Close()
	eventually(t, "the pod is forgotten", func() bool { return len(names(t, alice.Session)) == 2 })
	next := h.device("alice") // whoever it is: the name is free at once
	if err := next.put(next.session(), next.record("pod-1")); err != nil {
		t.Errorf("the name of the pod: %v", err)
	}
}

func TestAnEphemeralEndpointGoesAtHubsThatDidNotSeeItGo(t *testing.T) {
	t.Parallel() // it waits, most of the time
	hubs := several(t, 2, patient)
	hubs = append(hubs, hubs[0].another(func(c *Config) { c.ephemeral = 2 * time.Second }, patient))
	hubs[0].knows(hubs)
	pod := hubs[2].device("pods").online("pod-1", ephemeral)
	for _, h := range hubs[:2] {
		h.sees(pod.id, true)
	}
	pod.Session.Close()
	for _, h := range hubs {
		alice := h.device("alice")
		eventually(t, "the pod is forgotten", func() bool { return len(names(t, alice.session())) == 0 })
	}
}

func TestAnEphemeralEndpointThatComesBackStays(t *testing.T) {
	h := start(t, func(c *Config) { c.tidy, c.ephemeral = 10*time.Millisecond, time.Hour })
	alice := h.device("alice").online("a")
	pod := h.device("pods").online("pod-1", ephemeral)
	pod.Session.Close()
	pod.listen(pod.session())
	if got := names(t, alice.Session); len(got) != 2 {
		t.Errorf("the directory has %q", got)
	}
}

func TestEndpointsThatWereAwayForLongAreForgottenIfTheHubIsToldTo(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // it waits, most of the time
	h := start(t, func(c *Config) { c.tidy, c.ForgetAfter = 10*time.Millisecond, 3*time.Second }, patient)
	alice := h.device("alice").online("a")
	bob := h.device("bob").online("b")
	bob.Session.Close()
	eventually(t, "bob's endpoint is forgotten", func() bool { return len(names(t, alice.Session)) == 1 })
	if err := bob.put(bob.session(), bob.record("b")); err != nil {
		t.Errorf("it comes back: %v", err)
	}
	eve := h.device("eve")
	wantRefusal(t, eve.put(eve.session(), eve.record("b")), 409, "b")
}
