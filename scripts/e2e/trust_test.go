//go:build linux

package e2e

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ztm/tunnel/identity"
)

// TestJoinToken: of several devices that use a join token at the same time one joins, and the token is of no use
// afterwards.
func TestJoinToken(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	token := m.path("token.json")
	m.root.ztm("invite", "bob", "--permit", token, "--expires", "1h")

	const devices = 6
	var agents []*agent
	for i := range devices {
		agents = append(agents, m.newAgent(fmt.Sprintf("ep-%d", i), "bob"))
	}
	results := make([]result, devices)
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() { results[i] = a.try("join", m.name, "--as", a.name, "--permit", token) })
	}
	wg.Wait()
	var winner *agent
	for i, r := range results {
		switch {
		case r.status == 0 && winner == nil:
			winner = agents[i]
		case r.status == 0:
			t.Errorf("%s joined with the token of %s", agents[i].name, winner.name)
		case r.status != failed || !strings.Contains(r.stderr, "token"):
			t.Errorf("want a refusal that speaks of the token: %v", r)
		}
	}
	if winner == nil {
		t.Fatalf("nobody joined: %v", results)
	}
	winner.awaitConnected()
	if got := strings.Count(m.root.ztm("get", "ep", "--user", "bob"), "ep-"); got != 1 {
		t.Errorf("bob has %d endpoints, want 1", got)
	}
	for _, a := range agents {
		if a == winner {
			continue
		}
		if r := a.try("join", m.name, "--as", "later", "--permit", token); r.status != failed {
			t.Errorf("a used token: %v", r)
		}
		break
	}

	// The winner is a member like any other.
	address := m.root.tunnel("echo", winner, echoes(t).address())
	if err := echo(address); err != nil {
		t.Error(err)
	}
}

// rejection is what an evicted device is told.
const rejection = "does not accept this endpoint's certificate"

// TestEviction: an evicted user's flows end at once, in both roles, and the user's devices stay out, also when they or
// the hub are started anew; a new invitation lets them in again.
func TestEviction(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	bob, carol := m.addAgent("ep-bob", "bob"), m.addAgent("ep-carol", "carol")
	source, _ := faucet(t)
	loop := echoes(t)
	// Bob at the exit, bob at the entrance, and two who have nothing to do with him.
	atExit := m.root.tunnel("exit", bob, source.address())
	atEntrance := bob.tunnel("entrance", m.root, source.address())
	apart := m.root.tunnel("apart", carol, source.address())
	again := m.root.tunnel("again", bob, loop.address())

	endings := make(chan error, 2)
	var underway atomic.Int32
	for _, address := range []string{atExit, atEntrance} {
		c := dial(t, address)
		go func() { endings <- drain(c, func() { underway.Add(1) }) }() // ends with the flow
	}
	others := dial(t, apart)
	await(t, "data comes through bob's flows", func() bool { return underway.Load() == 2 })

	m.root.ztm("evict", "bob")
	start := time.Now()
	for range 2 {
		select {
		case err := <-endings:
			if err == errTruncated {
				t.Error(err)
			}
		case <-time.After(atOnce):
			t.Fatal("a flow of an evicted user goes on")
		}
	}
	t.Logf("bob's flows had ended %v after the eviction", time.Since(start).Round(time.Millisecond))
	if _, err := io.CopyN(io.Discard, others, 8<<20); err != nil {
		t.Errorf("a flow of others: %v", err)
	}

	refused := func(when string) {
		t.Helper()
		await(t, "bob is refused "+when+" and hears why", func() bool {
			r := bob.try("describe", "mesh", m.name)
			return !strings.Contains(r.stdout, "Connected") && strings.Contains(r.stdout, rejection)
		})
		if err := echo(again); err == nil {
			t.Errorf("bob's service is reached %s", when)
		}
		if out := m.root.ztm("get", "ep", "--online"); strings.Contains(out, "ep-bob") {
			t.Errorf("bob is online %s:\n%s", when, out)
		}
	}
	refused("after the eviction")
	bob.stop()
	bob.start()
	refused("after a restart of the device")
	m.hub.stop()
	m.startHub()
	m.root.awaitConnected()
	refused("after a restart of the hub")
	if r := bob.try("leave", m.name); r.status != 0 {
		t.Fatal(r)
	}
	if r := bob.try("join", m.name, "--as", "ep-bob", "--permit", m.path("ep-bob.json")); r.status != failed || !strings.Contains(r.stderr, rejection) {
		t.Errorf("want the old permit to be refused and to hear why: %v", r)
	}

	r := m.root.try("invite", "bob", "--identity", m.path("ep-bob.pub"), "--permit", m.path("again.json"))
	if r.status != 0 || !strings.Contains(r.stderr, "was evicted before") {
		t.Errorf("want a warning that grants are passed on: %v", r)
	}
	bob.joinBy(m.path("again.json"))
	again = m.root.tunnel("anew", bob, loop.address())
	if err := echo(again); err != nil {
		t.Errorf("after a new invitation: %v", err)
	}
}

// TestSecrets: no key and no token shows in a log, in a listing, or in the arguments or the environment of a process,
// and nothing that holds one can be read by others.
func TestSecrets(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{agentArgs: []string{"--log-level", "debug"}})
	bob := m.addAgent("ep-bob", "bob")
	carol := m.newAgent("ep-carol", "carol")
	m.root.ztm("invite", "carol", "--permit", m.path("token.json"))
	carol.joinBy(m.path("token.json"))
	if err := echo(m.root.tunnel("echo", bob, echoes(t).address())); err != nil {
		t.Fatal(err)
	}
	m.root.ztm("evict", "carol")

	secrets := map[string]string{}
	note := func(name, secret string) {
		if len(secret) < 40 {
			t.Fatalf("no %s was found where it must be", name)
		}
		secrets[name] = secret
	}
	note("CA key", innermost(string(m.authority().KeyPEM())))
	note("token", m.tokenText("token.json"))
	for _, a := range []*agent{m.root, bob, carol} {
		note("private key of "+a.name, storedKey(t, a))
	}

	for _, a := range []*agent{m.root, bob} {
		for _, words := range []string{"get mesh -o json", "get ep -o json", "describe mesh demo -o json", "get user -o json", "log ep", "get inbound -o json"} {
			noSecret(t, secrets, a.name+": ztm "+words, a.ztm(strings.Fields(words)...))
		}
	}
	for _, p := range []*process{m.hub, m.root.process, bob.process, carol.process} {
		for _, name := range []string{"cmdline", "environ"} {
			b, err := os.ReadFile(p.proc(name))
			if err != nil {
				t.Fatal(err)
			}
			noSecret(t, secrets, p.name+" "+name, string(b))
		}
		noSecret(t, secrets, "log of "+p.name, p.output())
	}
	hubState, err := os.ReadFile(m.path("hub/hub.db"))
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range secrets { // the hub's own key is there, and nobody else's
		if holds(string(hubState), secret) {
			t.Errorf("database of the hub: the %s is in it", name)
		}
	}

	private(t, m.path("hub"), m.path("root.json"), m.path("token.json"), m.root.data, bob.data, carol.data)
}

// noSecret fails the test if a text has a secret in it.
func noSecret(t testing.TB, secrets map[string]string, where, text string) {
	t.Helper()
	for name, secret := range secrets {
		if holds(text, secret) {
			t.Errorf("%s: the %s is in it", where, name)
		}
	}
	if strings.Contains(text, "PRIVATE KEY") {
		t.Errorf("%s: a private key is in it", where)
	}
}

// holds reports whether a text has a secret in it: the end of it, as it is or in base64 once more.
func holds(text, secret string) bool {
	end := secret[len(secret)-30:] // a multiple of three bytes: in base64 it stands on its own
	again := base64.StdEncoding.EncodeToString([]byte(end))
	return strings.Contains(text, end) || strings.Contains(text, again)
}

// private checks that files and directories, and all in them, can be used by their owner alone.
func private(t testing.TB, paths ...string) {
	t.Helper()
	for _, root := range paths {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			want := fs.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if got := info.Mode().Perm(); got != want {
				t.Errorf("%s has mode %o, want %o", path, got, want)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// innermost is the part of a key's PEM that is different for each key.
func innermost(pem string) string {
	lines := strings.Split(strings.TrimSpace(pem), "\n")
	return strings.Join(lines[1:len(lines)-1], "")
}

// tokenText returns a permit's token as it is written.
func (m *mesh) tokenText(permit string) string {
	m.t.Helper()
	b, err := os.ReadFile(m.path(permit))
	if err != nil {
		m.t.Fatal(err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil || p.Token == nil {
		m.t.Fatalf("%s: no token: %v", permit, err)
	}
	text, err := p.Token.MarshalText()
	if err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// storedKey finds the agent's private key in its database.
func storedKey(t testing.TB, a *agent) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(a.data, "agent.db"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`"key":"([A-Za-z0-9+/=]+)"`).FindSubmatch(b)
	if m == nil {
		return ""
	}
	pem, err := base64.StdEncoding.DecodeString(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return innermost(string(pem))
}
