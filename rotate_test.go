package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/hub"
	"ztm/tunnel/identity"
)

// membership is what an agent says of its one mesh.
func (w *world) membership(name string) api.Mesh {
	w.t.Helper()
	var all []api.Mesh
	if err := json.Unmarshal([]byte(w.ztm(name, "get", "mesh", "demo", "-o", "json")), &all); err != nil || len(all) != 1 {
		w.t.Fatalf("%d meshes, %v", len(all), err)
	}
	return all[0]
}

// renewed waits until the certificates of agents are of the mesh's newest CA.
func (w *world) renewed(ca identity.ID, names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.until(name+" has a certificate of the new CA", func() error {
			if m := w.membership(name); m.CA != ca || m.Agent.Issuer != ca {
				return fmt.Errorf("CA %s, issuer %s, want %s", m.CA, m.Agent.Issuer, ca)
			}
			return nil
		})
	}
}

// rotateFor rotates with a grace that is shorter than the command line has it.
func (w *world) rotateFor(name string, grace time.Duration) {
	w.t.Helper()
	w.write("new.json", string(w.call(name, http.MethodPost, api.CAPath("demo"), api.Rotate{Grace: apps.Duration(grace)})))
}

// call sends a request to the API of an agent, and returns the answer, which is no failure.
func (w *world) call(name, method, path string, in any) []byte {
	w.t.Helper()
	c, token, err := api.Dial(w.t.Context(), w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}}
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequest(method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set(api.ClientHeader, "1")
	req.Header.Set(api.TokenHeader, token)
	resp, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		w.t.Fatalf("%s %s: status %d, %v", method, path, resp.StatusCode, err)
	}
	return b
}

// liveFlow opens a flow through an echo tunnel. say sends on it and waits for the echo.
func (w *world) liveFlow(listen string) (say func() error) {
	w.t.Helper()
	c, err := net.Dial("tcp", listen)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	say = func() error {
		c.SetDeadline(time.Now().Add(60 * time.Second))
		if _, err := io.WriteString(c, "live"); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 4))
		return err
	}
	if err := say(); err != nil {
		w.t.Fatal(err)
	}
	return say
}

func TestARotationOfTheCAIsNoticedByNobody(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // they wait more than they work
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("alice", "alice")
	away := w.join("away", "carol")
	listen := w.tunnelTo("alice", "bob", "web", echoServer(t), "--users", "alice", "carol", "dave")
	say := w.liveFlow(listen)
	away()
	w.ztm("root", "invite", "dave", "--permit", w.path("dave-old.json"))
	before := w.membership("root").CA

	w.ztm("root", "rotate", "root", "--permit", w.path("new.json"), "--grace", "10m")
	if fi, err := os.Stat(w.path("new.json")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the new root permit: %v, %v", fi, err)
	}
	ca := w.membership("root").CA
	if ca == before {
		t.Fatal("the CA is the old one")
	}
	w.renewed(ca, "root", "bob", "alice")
	if err := say(); err != nil {
		t.Errorf("a flow from before the rotation broke: %v", err)
	}
	wantEcho(t, listen)

	// A device that was away since before finds its way.
	w.startAgent("away")
	w.connected("away")
	w.renewed(ca, "away")

	// New users join under the new CA, and tokens of the old one are void.
	w.startAgent("dave")
	_, errs, status := w.try("dave", "join", "demo", "--as", "ep-dave", "--permit", w.path("dave-old.json"))
	if status != 1 || !strings.Contains(errs, "not valid") {
		t.Errorf("a token of the old CA: exit status %d, %s", status, errs)
	}
	w.ztm("root", "invite", "dave", "--permit", w.path("dave.json"))
	w.ztm("dave", "join", "demo", "--as", "ep-dave", "--permit", w.path("dave.json"))
	w.renewed(ca, "dave")

	// Evictions and restarts go on from here.
	w.ztm("root", "evict", "carol")
	w.stopHub()
	w.startHub(hub.Config{})
	w.connected("bob")
	w.until("the tunnel works again", func() error {
		_, err := echo(listen, "x")
		return err
	})
	if diff := cmp.Diff(ca, w.membership("bob").CA); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
}

func TestWhatTheOldCASignedIsRefusedWhenItRetires(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // they wait more than they work
	const grace = 20 * time.Second
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("alice", "alice")
	away := w.join("away", "carol")
	target := echoServer(t)
	listen := w.tunnelTo("alice", "bob", "web", target, "--users", "alice", "carol")
	kept := w.tunnelTo("away", "bob", "away", target, "--users", "carol")
	say := w.liveFlow(listen)
	away()

	w.rotateFor("root", grace)
	retired := time.NewTimer(grace)
	ca := w.membership("root").CA
	w.renewed(ca, "root", "bob", "alice")
	wantEcho(t, listen)
	<-retired.C
	w.until("a flow that rests on an old certificate is cut", func() error {
		if say() == nil {
			return errors.New("it lives")
		}
		return nil
	})
	for _, name := range []string{"root", "bob", "alice"} {
		w.connected(name)
	}
	w.until("new flows are as good as ever", func() error {
		got, err := echo(listen, "x")
		if err == nil && got != "x" {
			err = fmt.Errorf("got %q", got)
		}
		return err
	})
	if out := w.ztm("root", "get", "ep"); strings.Contains(out, "ep-away") {
		t.Errorf("the directory still has the endpoint that was away:\n%s", out)
	}

	// It was away for too long: it is invited again, and finds its tunnel where it was.
	w.startAgent("away")
	w.until("the endpoint that was away is refused", func() error {
		if m := w.membership("away"); m.Status != api.Failed {
			return fmt.Errorf("it is %s", m.Status)
		}
		return nil
	})
	if _, errs, status := w.try("away", "join", "demo", "--as", "ep-away", "--permit", w.path("away.json")); status != 1 {
		t.Errorf("the old permit was taken: exit status %d, %s", status, errs)
	}
	w.ztm("root", "invite", "mallory", "--identity", w.path("away.pub"), "--permit", w.path("mallory.json"))
	if _, errs, status := w.try("away", "join", "demo", "--as", "ep-away", "--permit", w.path("mallory.json")); status != 1 || !strings.Contains(errs, "to user carol") {
		t.Errorf("an endpoint changed its user: exit status %d, %s", status, errs)
	}
	w.ztm("root", "invite", "carol", "--identity", w.path("away.pub"), "--permit", w.path("again.json"))
	w.ztm("away", "join", "demo", "--as", "ep-away", "--permit", w.path("again.json"))
	w.connected("away")
	wantEcho(t, kept)
	if _, errs, status := w.try("away", "join", "demo", "--as", "ep-away", "--permit", w.path("again.json")); status != 1 || !strings.Contains(errs, "already") {
		t.Errorf("joining a mesh that one is in: exit status %d, %s", status, errs)
	}
}

func TestAStolenRootKeyIsVoidAtOnce(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // they wait more than they work
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.join("alice", "alice")
	listen := w.tunnelTo("alice", "bob", "web", echoServer(t), "--users", "alice")
	say := w.liveFlow(listen)
	w.startAgent("thief")

	w.ztm("root", "rotate", "root", "--permit", w.path("new.json"), "--grace", "0")
	if say() == nil {
		t.Error("a flow of old certificates lives on")
	}
	w.stopHub()
	w.startHub(hub.Config{Permit: w.path("new.json")})
	w.connected("root")
	if _, errs, status := w.try("thief", "join", "demo", "--as", "ep-thief", "--permit", w.path("root.json")); status != 1 {
		t.Errorf("the stolen permit is good: exit status %d, %s", status, errs)
	}
	for _, name := range []string{"bob", "alice"} {
		if m := w.membership(name); m.Status == api.Connected {
			t.Errorf("%s is still connected", name)
		}
		w.ztm("root", "invite", name, "--identity", w.path(name+".pub"), "--permit", w.path(name+"2.json"))
		w.ztm(name, "join", "demo", "--as", "ep-"+name, "--permit", w.path(name+"2.json"))
		w.connected(name)
	}
	wantEcho(t, listen)
}

func TestAnotherRootEndpointTakesTheNewKeyFromThePermit(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // they wait more than they work
	w := newWorld(t)
	w.join("root", "root")
	w.join("second", "root")
	w.ztm("root", "rotate", "root", "--permit", w.path("new.json"), "--grace", "10m")
	ca := w.membership("root").CA
	w.renewed(ca, "second")
	for _, args := range [][]string{{"invite", "bob"}, {"evict", "bob"}, {"rotate", "root", "--permit", w.path("x.json")}} {
		if _, errs, status := w.try("second", args...); status != 1 || !strings.Contains(errs, "join again with the new root permit") {
			t.Errorf("%v: exit status %d, %s", args, status, errs)
		}
	}
	if _, errs, status := w.try("second", "join", "demo", "--as", "ep-second", "--permit", w.path("root.json")); status != 1 || !strings.Contains(errs, "old one") {
		t.Errorf("the old root permit: exit status %d, %s", status, errs)
	}
	w.ztm("second", "label", "--add", "kept")
	w.ztm("second", "join", "demo", "--as", "ep-second", "--permit", w.path("new.json"))
	w.connected("second")
	if diff := cmp.Diff([]string{"kept"}, w.membership("second").Agent.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	w.ztm("second", "invite", "bob", "--permit", w.path("bob.json"))
	w.startAgent("bob")
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))

	// The permit can be written again, and it is the same key.
	w.ztm("second", "rotate", "root", "--again", "--permit", w.path("again.json"))
	if diff := cmp.Diff(ca, w.membership("second").CA); diff != "" {
		t.Errorf("CA (-want +got):\n%s", diff)
	}
	w.startAgent("third")
	w.ztm("third", "join", "demo", "--as", "ep-third", "--permit", w.path("again.json"))
	w.ztm("third", "invite", "eve", "--permit", w.path("eve.json"))
}

func TestARotationThatFailedIsTakenUpAgain(t *testing.T) {
	appstest.Long(t)
	t.Parallel() // they wait more than they work
	w := newWorld(t)
	stop := w.join("root", "root")
	before := w.membership("root").CA
	w.stopHub()
	w.until("the hub is missed", func() error {
		if m := w.membership("root"); m.Status == api.Connected {
			return errors.New("still connected")
		}
		return nil
	})
	if _, errs, status := w.try("root", "rotate", "root", "--permit", w.path("new.json")); status != 1 || !strings.Contains(errs, "not connected") {
		t.Errorf("without a hub: exit status %d, %s", status, errs)
	}
	if _, err := os.Stat(w.path("new.json")); err == nil {
		t.Error("there is a permit of a rotation that did not happen")
	}
	if diff := cmp.Diff(before, w.membership("root").CA); diff != "" {
		t.Errorf("CA (-want +got):\n%s", diff)
	}
	stop()
	w.startHub(hub.Config{})
	w.startAgent("root")
	w.connected("root")
	w.ztm("root", "rotate", "root", "--permit", w.path("new.json"))
	w.renewed(w.membership("root").CA, "root")
}

func TestAHubThatKeepsTheCAGetsTheNewOne(t *testing.T) {
	t.Parallel() // they wait more than they work
	w := emptyWorld(t)
	w.startHub(hub.Config{KeepCA: true})
	w.join("root", "root")
	w.ztm("root", "rotate", "root", "--permit", w.path("new.json"), "--grace", "10m")
	ca := w.membership("root").CA
	w.renewed(ca, "root")
	w.stopHub()
	before := w.hubLog.Count(slog.LevelWarn)
	w.startHub(hub.Config{KeepCA: true}) // with the old permit: it runs and does not sign
	w.stopHub()                          // what it had to say is said
	warned := w.hubLog.Count(slog.LevelWarn)
	if warned == before {
		t.Errorf("the hub does not say that its key is old:\n%s", w.hubLog)
	}
	w.startHub(hub.Config{KeepCA: true, Permit: w.path("new.json")})
	w.stopHub()
	if n := w.hubLog.Count(slog.LevelWarn); n != warned {
		t.Errorf("with the new permit the hub warns:\n%s", w.hubLog)
	}
}
