//go:build linux

package e2e

import (
	"bytes"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestNAT: two agents behind routers of their own, which reach each other in no other way, reach each other through
// the hub; flows fail when the hub cannot be reached, and all heals when it can.
func TestNAT(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, ip := range []string{"10.2.0.2", "203.0.113.6"} {
		if w.reaches("a", ip) {
			t.Fatalf("a reaches %s without the hub: the test shows nothing", ip)
		}
	}
	for _, place := range []string{"a", "b"} {
		if !w.reaches(place, hubIP) {
			t.Fatalf("%s does not reach the hub's address", place)
		}
	}

	port := freePort(t)
	places := map[string]string{"hub": "public", "ep-root": "a", "ep-bob": "b"}
	m := newMesh(t, options{
		listen: net.JoinHostPort("0.0.0.0", strconv.Itoa(port)),
		names:  net.JoinHostPort(hubIP, strconv.Itoa(port)),
		wrap:   func(who string) []string { return w.In(places[who]) },
	})
	bob := m.addAgent("ep-bob", "bob")
	for _, a := range m.agents {
		a.ztm("config", "direct", "off") // a direct path would outlive the hub
	}
	entrance := m.root.tunnel("redis", bob, redisServer(t, "127.0.0.1", w.In("b")...))
	_, entrancePort, err := net.SplitHostPort(entrance)
	if err != nil {
		t.Fatal(err)
	}
	cli := append(w.In("a"), program(t, "redis-cli", "redis-tools"), "-p", entrancePort)
	redis := func(stdin []byte, words ...string) string {
		t.Helper()
		return call(t, bytes.NewReader(stdin), cli[0], append(cli[1:], words...)...)
	}

	const size = 32 << 20
	data := random(t, "nat", size)
	redis(data, "-x", "set", "large")
	if got := strings.TrimSuffix(redis(nil, "get", "large"), "\n"); sum([]byte(got)) != sum(data) {
		t.Errorf("%d bytes came back, which are not those that were sent", len(got))
	}

	// A client that waits for an answer while the hub vanishes without a word.
	waiting := launch(t, "redis-cli", exec.Command(cli[0], append(cli[1:], "blpop", "nothing", "0")...))
	await(t, "the client waits", func() bool { return strings.Contains(redis(nil, "client", "list"), "cmd=blpop") })
	w.cut(port)
	start := time.Now()
	awaitWithin(t, asked+margin, "the client that waits gets an error", func() bool { return !waiting.running() })
	t.Logf("a client that waited had an error after %v", time.Since(start).Round(time.Millisecond))
	// At rest nobody asks so often: an idle connection must cost next to nothing.
	for _, a := range m.agents {
		awaitWithin(t, 90*time.Second, a.name+" notices that the hub is away", func() bool { return a.status() != "connected" })
	}
	t.Logf("both agents knew after %v", time.Since(start).Round(time.Millisecond))

	w.mend()
	start = time.Now()
	for _, a := range m.agents {
		a.awaitConnected()
	}
	if got := redis(nil, "strlen", "large"); got != strconv.Itoa(size)+"\n" {
		t.Errorf("after the hub is back: %q", got)
	}
	t.Logf("all was well %v after the hub could be reached again", time.Since(start).Round(time.Millisecond))
}
