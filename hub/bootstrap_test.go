package hub

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/hub/state"
	"ztm/store"
	"ztm/store/private"
	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// runError runs a hub that must not start and returns its error.
func runError(t testing.TB, c Config) error {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	c.Started = func(Started) {
		t.Error("the hub started")
		cancel()
	}
	h, err := New(c)
	if err != nil {
		return err
	}
	return h.Run(ctx)
}

// files lists a directory.
func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := []string{}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// secretsOf returns a private key in every form that it could lie around in.
func secretsOf(t testing.TB, keyPEM []byte) [][]byte {
	t.Helper()
	key, err := identity.ParsePrivateKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := pem.Decode(keyPEM)
	lines := strings.Split(strings.TrimSpace(string(keyPEM)), "\n")
	return [][]byte{
		key.Seed(), p.Bytes, []byte(lines[1]), []byte(base64.StdEncoding.EncodeToString(key.Seed())),
		[]byte(base64.StdEncoding.EncodeToString(p.Bytes)),
	}
}

func TestTheFirstStartMakesAMeshWhoseKeyLeavesTheHub(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir)
	path := filepath.Join(dir, "root.json")
	if h.started.Permit != path {
		t.Errorf("the permit is at %q, want %q", h.started.Permit, path)
	}
	permit, ca, err := state.ReadRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	if permit.Mesh != h.started.Mesh || ca.Mesh() != h.started.Mesh || len(permit.Trust) != 0 {
		t.Errorf("%v is not of mesh %s", permit, h.started.Mesh)
	}
	if diff := cmp.Diff([]string{"hub.test:8888"}, permit.Bootstraps); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	bob := h.device("bob")
	if err := bob.put(bob.session(), bob.record("b")); err != nil {
		t.Error(err)
	}
	h.stop()
	for _, name := range files(t, dir) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	db := read(t, dir, "hub.db")
	for _, secret := range secretsOf(t, ca.KeyPEM()) {
		if bytes.Contains(db, secret) {
			t.Error("the hub has kept the CA key")
		}
		if strings.Contains(h.log.String(), string(secret)) {
			t.Error("the log has the CA key")
		}
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	h := start(t, keepCA)
	a, b := h.device("alice").online("a"), h.device("bob").online("b")
	token := h.token("carol", h.started.ID)
	if err := h.unjoined("carol").join("c", token); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		c, err := a.carry(b.id, "")
		if err == nil {
			c.Close()
		}
		opened <- err
	}()
	ticket := b.next(tunnel.EventDialBack).Ticket
	c, err := b.carry(b.id, ticket)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	h.stop()
	text, err := token.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(text), ".")
	secrets := append(secretsOf(t, h.ca.KeyPEM()), []byte(ticket), []byte(parts[2]))
	log := h.log.String()
	for i, secret := range secrets {
		if strings.Contains(log, string(secret)) {
			t.Errorf("secret %d is in the log", i)
		}
	}
	if !strings.Contains(log, string(b.id)) {
		t.Error("the log was not looked at")
	}
}

func TestAHubThatKeepsTheCASaysSo(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir)
	status := func(d *device) (s tunnel.HubStatus) {
		if err := d.session().Call(t.Context(), "GET", tunnel.PathHub, nil, nil, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	bob := h.device("bob")
	want := tunnel.HubStatus{ID: h.started.ID, Version: "test", Names: []string{"hub.test:8888"}, MaxAgents: 10000}
	got := status(bob)
	if host, _, _ := net.SplitHostPort(got.ClientAddr); host != "127.0.0.1" || time.Since(got.Since) > time.Hour || time.Since(got.Time.Time()) > time.Hour {
		t.Errorf("%+v", got)
	}
	got.ClientAddr, got.Since, got.Time = "", time.Time{}, 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h.stop()
	// The key comes back from the root permit, and stays from then on.
	h = startIn(t, dir, keepCA)
	bob.hub = h
	if !status(bob).KeepsCA {
		t.Error("the hub does not keep the CA")
	}
	h.stop()
	if !bytes.Contains(read(t, dir, "hub.db"), secretsOf(t, h.ca.KeyPEM())[2]) {
		t.Error("the database does not hold the key")
	}
	h = startIn(t, dir)
	bob.hub = h
	if status(bob).KeepsCA {
		t.Error("the hub uses a key that it was not told to keep")
	}
	if h.log.Count(slog.LevelWarn) == 0 {
		t.Error("the log does not say that the key is still there")
	}
}

func TestTheCAKeyComesFromThePermitOfThisMeshAlone(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir)
	h.stop()
	other := start(t)
	successor, err := h.ca.Successor(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(t.TempDir(), "root.json")
	if err := state.WritePermit(foreign, successor, []string{"h:1"}); err != nil {
		t.Fatal(err)
	}
	for path, part := range map[string]string{
		filepath.Join(other.config.Data, "root.json"): "permit is for mesh",
		foreign:          "another CA",
		memberPermit(t):  "not a root permit",
		dir + "/nothing": "no such file",
	} {
		if err := runError(t, Config{Data: dir, Permit: path, KeepCA: true}); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("got %v, want an error with %q", err, part)
		}
	}
	if bytes.Contains(read(t, dir, "hub.db"), []byte("signer")) {
		t.Error("the hub has kept a key")
	}
}

func TestAFirstStartThatWasInterruptedIsFinished(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir)
	bob := h.device("bob")
	h.stop()
	// What a crash leaves between the permit and the database, and what is left when a hub is lost.
	if err := os.Remove(filepath.Join(dir, "hub.db")); err != nil {
		t.Fatal(err)
	}
	before := read(t, dir, "root.json")
	again := startIn(t, dir, func(c *Config) { c.Names = nil })
	if again.started.Mesh != h.started.Mesh || again.started.Permit != "" {
		t.Errorf("started as %+v, was %+v", again.started, h.started)
	}
	if diff := cmp.Diff(h.started.Names, again.started.Names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !bytes.Equal(before, read(t, dir, "root.json")) {
		t.Error("the permit changed")
	}
	bob.hub = again
	if err := bob.put(bob.session(), bob.record("b")); err != nil {
		t.Errorf("a member of before: %v", err)
	}
}

func TestAnEvictionInTheRootPermitIsInForceFromTheStart(t *testing.T) {
	m := identitytest.New(t, time.Now())
	ca := m.CA
	trust, err := m.Trust.Evict(ca, "bob", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := identity.Permit{Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), CAKey: string(ca.KeyPEM()),
		Bootstraps: []string{"h:1"}, Trust: trust.Document()}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "root.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	h := start(t, func(c *Config) { c.Permit = path })
	invited := time.Now().Add(-time.Hour)
	if h.try(h.deviceAt("bob", invited, invited).config(tunnel.ControlProto)) == nil {
		t.Error("an evicted user gets in")
	}
	if err := h.try(h.device("alice").config(tunnel.ControlProto)); err != nil {
		t.Error(err)
	}
}

func TestNamesAndThePermitOnLaterStarts(t *testing.T) {
	dir, elsewhere := t.TempDir(), filepath.Join(t.TempDir(), "new.json")
	h := startIn(t, dir)
	h.stop()
	h = startIn(t, dir, func(c *Config) { c.Names = []string{"new.test:1"} })
	h.stop()
	h = startIn(t, dir, func(c *Config) { c.Names = nil })
	if diff := cmp.Diff([]string{"new.test:1"}, h.started.Names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	h.stop()

	c := h.config
	c.Permit = elsewhere
	hub, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hub.config.Started = func(s Started) {
		if s.Permit != "" {
			t.Errorf("a permit was written to %s", s.Permit)
		}
		cancel()
	}
	if err := hub.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(elsewhere); err == nil {
		t.Error("a permit was written without the CA key")
	}
	if h.log.Count(slog.LevelWarn) == 0 {
		t.Error("the log does not say why there is no permit")
	}
	startIn(t, dir, keepCA).stop()
	if h := startIn(t, dir, keepCA, func(c *Config) { c.Permit = elsewhere }); h.started.Permit != elsewhere {
		t.Error("a hub that keeps the CA key does not write the permit again")
	}
}

func TestBadInputIsAnErrorInWordsAndChangesNothing(t *testing.T) {
	names := []string{"hub.test:8888"}
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("not a permit"), 0o600); err != nil {
		t.Fatal(err)
	}
	member := memberPermit(t)
	cases := []struct {
		name string
		c    Config
		part string
	}{
		{"port in use", Config{Names: names, Listen: used.Addr().String()}, used.Addr().String() + " is in use"},
		{"no port", Config{Names: names, Listen: "127.0.0.1"}, "listen address"},
		{"no names", Config{}, "needs the names"},
		{"a name without a port", Config{Names: []string{"hub.test"}}, "host:port"},
		{"public metrics", Config{Names: names, Metrics: "0.0.0.0:9100"}, "loopback"},
		{"metrics by name", Config{Names: names, Metrics: "localhost:9100"}, "loopback"},
		{"negative limit", Config{Names: names, Limits: Limits{Paths: -1}}, "negative"},
		{"permit in no directory", Config{Names: names, Permit: "/nonexistent/dir/root.json"}, "permit cannot be written"},
		{"permit below a file", Config{Names: names, Permit: filepath.Join(file, "root.json")}, "permit cannot be written"},
		{"something else where the permit goes", Config{Names: names, Permit: file}, "move it away"},
		{"a member's permit where the root permit goes", Config{Names: names, Permit: member}, "not a root permit"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			c.c.Data = dir
			err := runError(t, c.c)
			if err == nil || !strings.Contains(err.Error(), c.part) {
				t.Errorf("got %v, want an error with %q", err, c.part)
			}
			if c.c.Permit != "" {
				os.Remove(filepath.Join(dir, "hub.db")) // an empty one: nothing in it depends on what comes next
			}
			if left := files(t, dir); len(left) > 0 {
				t.Errorf("%q is left behind", left)
			}
		})
	}
	if err := runError(t, Config{Data: filepath.Join(file, "dir"), Names: names}); err == nil || !strings.Contains(err.Error(), "data directory") {
		t.Errorf("a data directory below a file: %v", err)
	}
	if err := runError(t, Config{Names: names}); err == nil {
		t.Error("no data directory was given, and that was taken")
	}
	if string(read(t, file)) != "not a permit" {
		t.Error("a file that was in the way was changed")
	}
}

// memberPermit writes a permit that is not a root permit.
func memberPermit(t testing.TB) string {
	t.Helper()
	ca := identitytest.New(t, time.Now()).CA
	key, err := identity.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignMember(publicKey(key), "bob", time.Now(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	p := identity.Permit{Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), Bootstraps: []string{"h:1"},
		Agent: &identity.PermitAgent{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}}
	b, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bob.json")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestADatabaseThatIsLockedOrDamagedIsAnErrorThatNamesIt(t *testing.T) {
	t.Parallel() // it waits, most of the time
	appstest.Long(t)
	dir := t.TempDir()
	h := startIn(t, dir)
	path := filepath.Join(dir, "hub.db")
	if err := runError(t, Config{Data: dir}); err == nil || !contains(err.Error(), path, store.ErrInUse.Error()) {
		t.Errorf("locked: %v", err)
	}
	h.stop()
	whole := read(t, path)
	for name, b := range map[string][]byte{
		"truncated":   whole[:len(whole)/2],
		"overwritten": append(bytes.Repeat([]byte{0x5a}, 8192), whole[8192:]...),
		"other file":  []byte("#!/bin/sh\n"),
	} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := runError(t, Config{Data: dir}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(b, read(t, path)) {
			t.Errorf("%s: the file was changed", name)
		}
	}
}

func TestARootPermitOfAnotherUserIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a file away")
	}
	ca := identitytest.New(t, time.Now()).CA
	permit := filepath.Join(t.TempDir(), "root.json")
	if err := state.WritePermit(permit, ca, []string{"hub.test:1"}); err != nil {
		t.Fatal(err)
	}
	begin := func() error {
		hub, err := New(Config{Data: t.TempDir(), Listen: "127.0.0.1:0", Permit: permit, Names: []string{"hub.test:1"}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		hub.config.Started = func(Started) { cancel() }
		return hub.Run(ctx)
	}
	if err := os.Chown(permit, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if err := begin(); !errors.Is(err, private.ErrOwner) {
		t.Errorf("got %v", err)
	}
	if err := os.Chown(permit, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := begin(); err != nil {
		t.Errorf("one's own: %v", err)
	}
}

func TestARootPermitIsAFile(t *testing.T) {
	if _, _, err := state.ReadRoot(t.TempDir()); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
