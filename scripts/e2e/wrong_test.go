//go:build linux

package e2e

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
)

// The exit statuses that scripts rely on.
const (
	failed = 1
	usage  = 2
)

// mistake is a command line that cannot work, and what a person is told.
type mistake struct {
	name   string
	args   string // words
	status int
	want   []string // what the message says, among other things
}

// check runs the command line and looks at the message.
func (w mistake) check(t *testing.T, run func(args ...string) result) {
	t.Helper()
	r := run(strings.Fields(w.args)...)
	if r.status != w.status {
		t.Errorf("exit status %d, want %d", r.status, w.status)
	}
	if r.stdout != "" {
		t.Error("something was printed to standard output")
	}
	if !strings.HasPrefix(r.stderr, "ztm: ") {
		t.Error(`the message does not begin with "ztm: "`)
	}
	for _, word := range w.want {
		if !strings.Contains(r.stderr, word) {
			t.Errorf("the message does not say %q", word)
		}
	}
	if t.Failed() {
		t.Log(r)
	}
}

// TestWrongCommands: a command that cannot work says why, with the right exit status, and changes nothing.
func TestWrongCommands(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	bob := m.addAgent("ep-bob", "bob")
	web := echoes(t).address()
	m.root.tunnel("web", bob, web)
	_, port, err := net.SplitHostPort(web)
	if err != nil {
		t.Fatal(err)
	}
	before := m.state()

	asRoot := []mistake{
		{"unknown command", "frobnicate", usage, []string{`unknown command "frobnicate"`, "hint: see: ztm --help"}},
		{"unknown kind", "get nonsense", usage, []string{"nonsense", "one of: mesh, ep"}},
		{"unknown option", "get ep --nonsense", usage, []string{"unknown option", "--nonsense", "ztm get ep --help"}},
		{"unknown format", "get ep -o xml", usage, []string{`"xml"`, "json"}},
		{"too many arguments", "leave demo demo", usage, []string{"demo"}},
		{"missing argument", "leave", usage, []string{"MESH"}},
		{"missing option", "join other --permit root.json", usage, []string{"--as"}},
		{"option without a value", "join other --as", usage, []string{"--as"}},
		{"unknown endpoint", "describe ep nobody", failed, []string{"endpoint 'nobody' not found", "get ep"}},
		{"unknown endpoint to ping", "ping ep nobody", failed, []string{"endpoint 'nobody' not found"}},
		{"unknown endpoint as prefix", "ep nobody get inbound", failed, []string{"endpoint 'nobody' not found"}},
		{"unknown mesh", "get mesh nowhere", failed, []string{"mesh 'nowhere' not found", "demo"}},
		{"unknown mesh as prefix", "mesh nowhere get ep", failed, []string{"nowhere", "demo"}},
		{"unknown mesh to leave", "leave nowhere", failed, []string{`"nowhere"`}},
		{"unknown tunnel", "describe tunnel tcp/nothing", failed, []string{"tcp/nothing not found"}},
		{"unknown inbound to close", "tunnel close inbound tcp/nothing", failed, []string{"tcp/nothing"}},
		{"tunnel without protocol", "tunnel open inbound web --listen 1080", usage, []string{"tcp/NAME"}},
		{"tunnel without name", "tunnel open inbound tcp/ --listen 1080", usage, []string{"tcp/"}},
		{"inbound without listen", "tunnel open inbound tcp/new", usage, []string{"--listen"}},
		{"outbound without targets", "tunnel open outbound tcp/new", usage, []string{"--targets"}},
		{"port that is none", "tunnel open inbound tcp/new --listen 99999", usage, []string{"99999"}},
		{"target without port", "tunnel open outbound tcp/new --targets localhost", usage, []string{"localhost"}},
		{"port in use", "tunnel open inbound tcp/new --listen " + port, failed, []string{port, "in use"}},
		{"port in use, for a tunnel that is there", "tunnel set inbound tcp/web --listen " + port, failed, []string{port, "in use"}},
		{"tunnel that is open elsewhere", "tunnel open inbound tcp/web --listen 62999", failed, []string{"open already", "ztm tunnel set inbound tcp/web"}},
		{"address of another machine", "tunnel open inbound tcp/new --listen 192.0.2.1:1080", failed, []string{"192.0.2.1"}},
		{"unknown exit", "tunnel open inbound tcp/new --listen 1080 --exits nobody", failed, []string{"'nobody' not found"}},
		{"unknown entrance", "tunnel open outbound tcp/new --targets 127.0.0.1:1 --entrances nobody", failed, []string{"'nobody' not found"}},
		{"listens that overlap", "tunnel open inbound tcp/new --listen 1080 *:1080", failed, []string{"127.0.0.1:1080 and *:1080 overlap"}},
		{"ranges that differ", "tunnel open inbound tcp/new --listen 7000-7010 8000-8005", failed, []string{"7000-7010", "8000-8005", "11 and 6"}},
		{"range that is backwards", "tunnel open outbound tcp/new --targets localhost:82-80", usage, []string{"write 80-82"}},
		{"name of dots", "tunnel open inbound tcp/.. --listen 1080", usage, []string{`"tcp/.."`, "not dots alone"}},
		{"target everywhere", "tunnel open outbound tcp/new --targets *:80", failed, []string{"*:80", "name a host"}},
		{"target without a port number", "tunnel open outbound tcp/new --targets localhost:0", failed, []string{"localhost:0", "name a port"}},
		{"target twice", "tunnel open outbound tcp/new --targets a:80 a:80", failed, []string{"a:80 is there twice"}},
		{"check of udp", "tunnel open outbound udp/new --targets a:80 --check tcp", failed, []string{"udp/new", "leave the check out"}},
		{"check of too many ports", "tunnel open outbound tcp/new --targets a:1-200 --check tcp", failed, []string{"200 ports", "leave the check out"}},
		{"statistics of an unknown tunnel", "stats tunnel tcp/nothing", failed, []string{"tcp/nothing", "ztm get tunnel"}},
		{"target that refuses", "nc ep-root 127.0.0.1:1", failed, []string{"127.0.0.1:1 refused the connection"}},
		{"target that is not allowed", "nc ep-bob 127.0.0.1:1", failed, []string{"ask the owner of ep-bob", "ztm tunnel allow"}},
		{"mesh joined already", "join demo --as again --permit root.json", failed, []string{"joined", "already"}},
		{"mesh joined under another name", "join other --as again --permit root.json", failed, []string{"joined", "already", "demo"}},
		{"user name that is none", "invite a/b --permit new.json", usage, []string{`"a/b"`}},
		{"user name that is none in a list", "tunnel set outbound tcp/web --users alice b/d", usage, []string{`"b/d"`}},
		{"leaving at another endpoint", "ep ep-bob leave demo", usage, []string{"ztm leave", "ep ep-bob"}},
		{"joining at another endpoint", "ep ep-bob join x --as y --permit root.json", usage, []string{"ztm join", "ep ep-bob"}},
		{"evicting at another endpoint", "ep ep-bob evict bob", usage, []string{"ztm evict", "ep ep-bob"}},
		{"evicting somebody unknown", "evict bbo", failed, []string{"bbo", "--force"}},
		{"key that is none", "invite carol --identity root.json --permit new.json", failed, []string{"key"}},
		{"key file that is not there", "invite carol --identity nofile --permit new.json", failed, []string{"nofile", "no such file"}},
		{"permit in a directory that is not there", "invite carol --permit no/new.json", failed, []string{"no/", "no such file"}},
		{"eviction of oneself", "evict root", failed, []string{"root", "itself"}},
		{"shell that is none", "completion tcsh", usage, []string{"tcsh", "bash"}},
		{"links into nowhere", "install-links no/where", failed, []string{"no/where"}},
		{"command of the other role", "run gateway", usage, []string{"gateway"}},
	}
	asBob := []mistake{
		{"invitation by a member", "invite carol --permit new.json", failed, []string{"only", "root"}},
		{"eviction by a member", "evict root", failed, []string{"only", "root"}},
		{"tunnel at another's endpoint", "ep ep-root tunnel open outbound tcp/new --targets 127.0.0.1:1", failed, []string{"ep-root", "bob"}},
		{"tunnels of another's endpoint", "ep ep-root get inbound", failed, []string{"ep-root", "bob"}},
		{"log of another's endpoint", "log ep ep-root", failed, []string{"ep-root", "bob"}},
	}
	for _, w := range asRoot {
		t.Run(w.name, func(t *testing.T) { w.check(t, m.root.try) })
	}
	for _, w := range asBob {
		t.Run(w.name, func(t *testing.T) { w.check(t, bob.try) })
	}
	if diff := cmp.Diff(before, m.state()); diff != "" {
		t.Errorf("commands that failed changed something (-before +after):\n%s", diff)
	}
	if _, err := os.Stat(m.path("new.json")); !os.IsNotExist(err) {
		t.Errorf("an invitation that failed left its permit: %v", err)
	}
}

// TestHubDown: without the hub, what needs it fails and says what is wrong, and what is known here is shown.
func TestHubDown(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	bob := m.addAgent("ep-bob", "bob")
	entrance := m.root.tunnel("echo", bob, echoes(t).address())
	m.hub.stop()
	if r := m.root.try("ping", "ep", "ep-bob"); r.status != failed || !strings.Contains(r.stdout, "is it running?") {
		t.Errorf("ping: %v", r)
	}
	for _, args := range []string{"get ep", "describe ep ep-bob"} { // as the directory was
		if r := m.root.try(strings.Fields(args)...); r.status != 0 || !strings.Contains(r.stdout, "ep-bob") || !strings.Contains(r.stderr, "is it running?") {
			t.Errorf("%s: %v", args, r)
		}
	}
	if out := m.root.ztm("describe", "mesh", m.name); !strings.Contains(out, "is it running?") {
		t.Errorf("describe mesh does not say what is wrong:\n%s", out)
	}
	if out := m.root.ztm("get", "inbound"); !strings.Contains(out, "tcp/echo") {
		t.Errorf("get inbound does not list the tunnel:\n%s", out)
	}
	if err := echo(entrance); err == nil {
		t.Error("a tunnel works without the hub: has it another way?")
	}
	if r := m.root.try("evict", "bob"); r.status != 0 || !strings.Contains(r.stderr, "is it running?") {
		t.Errorf("evict does not work, or does not warn that no hub knows:\n%v", r)
	}
	m.startHub()
	m.root.awaitConnected()
	await(t, "the eviction has reached the hub", func() bool { return !strings.Contains(m.root.ztm("get", "ep"), "ep-bob") })
}

// state is all that commands could change.
func (m *mesh) state() map[string]string {
	state := map[string]string{}
	for _, a := range m.agents {
		state[a.name+" mesh"] = a.ztm("get", "mesh")
		if strings.Count(state[a.name+" mesh"], "\n") < 2 {
			continue // has joined none
		}
		state[a.name+" inbound"] = a.ztm("get", "inbound")
		state[a.name+" outbound"] = a.ztm("get", "outbound", "-o", "wide")
		state[a.name+" label"] = a.ztm("label")
	}
	state["ep"] = m.root.ztm("get", "ep")
	state["user"] = m.root.ztm("get", "user")
	return state
}

// TestWrongPermits: a permit that is not good for this device, this mesh or this time is refused in words, and the
// device has joined nothing.
func TestWrongPermits(t *testing.T) {
	t.Parallel()
	m, other := newMesh(t, options{}), newMesh(t, options{})
	bob := m.addAgent("ep-bob", "bob")
	carol := m.newAgent("ep-carol", "carol")
	good := m.invite(carol, "carol")
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) string {
		t.Helper()
		if err := os.WriteFile(m.path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	forge := func(name string, change func(p *identity.Permit)) string {
		t.Helper()
		p, err := identity.ParsePermit(text)
		if err != nil {
			t.Fatal(err)
		}
		change(p)
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return write(name, b)
	}
	key, err := identity.ParsePublicKey([]byte(carol.ztm("identity")))
	if err != nil {
		t.Fatal(err)
	}
	now, years := time.Now(), 2*365*24*time.Hour
	ancient := identitytest.New(t, now.Add(-2*years)).CA
	// A member's certificate of a given time, by a mesh that its holder takes for the right one.
	by := func(ca *identity.CA, at time.Time) func(*identity.Permit) {
		return func(p *identity.Permit) {
			p.Mesh, p.CA, p.Agent.Certificate = ca.Mesh(), string(ca.CertificatePEM()), member(t, ca, key, at)
		}
	}
	elsewhere := loopback(freePort(t))

	before := m.state()
	for _, c := range []struct {
		name   string
		permit string
		want   []string
	}{
		{"not there", "nofile", []string{"nofile", "no such file"}},
		{"empty", write("empty", nil), []string{"empty"}},
		{"truncated", write("truncated", text[:len(text)/2]), []string{"truncated", "not JSON"}},
		{"something else", write("something", []byte(`{"some": "thing"}`)), []string{"permit"}},
		{"altered", write("altered", []byte(strings.Replace(string(text), "MII", "MIX", 1))), []string{"permit"}},
		{"for another device", bob.name + ".json", []string{"another device"}},
		{"expired", forge("expired", by(ancient, now.Add(-years))), []string{"expired"}},
		{"not yet valid", forge("early", by(m.authority(), now.Add(years))), []string{"not valid before", "clock"}},
		{"of another mesh than the hub's", forge("hijack", by(other.authority(), now)), []string{"hub", m.names}},
		{"with a certificate of another mesh", forge("foreign", func(p *identity.Permit) {
			p.Agent.Certificate = member(t, other.authority(), key, now)
		}), []string{"permit", "another mesh"}},
		{"of a hub that is down", forge("down", func(p *identity.Permit) { p.Bootstraps = []string{elsewhere} }), []string{elsewhere, "is it running?"}},
		{"without a hub", forge("nowhere", func(p *identity.Permit) { p.Bootstraps = nil }), []string{"permit"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			mistake{args: "join demo --as ep-carol --permit " + c.permit, status: failed, want: c.want}.check(t, carol.try)
		})
	}
	t.Run("name already taken", func(t *testing.T) {
		mistake{args: "join demo --as ep-bob --permit " + good, status: failed, want: []string{"ep-bob", "taken", "bob"}}.check(t, carol.try)
	})
	t.Run("name that is none", func(t *testing.T) {
		mistake{args: "join demo --as ../x --permit " + good, status: usage, want: []string{"../x"}}.check(t, carol.try)
	})
	if diff := cmp.Diff(before, m.state()); diff != "" {
		t.Errorf("permits that were refused changed something (-before +after):\n%s", diff)
	}
	carol.joinBy(good)
}

// authority returns the CA of the mesh, from the root permit.
func (m *mesh) authority() *identity.CA {
	m.t.Helper()
	b, err := os.ReadFile(m.path("root.json"))
	if err != nil {
		m.t.Fatal(err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		m.t.Fatal(err)
	}
	ca, err := identity.ParseCA([]byte(p.CA), []byte(p.CAKey))
	if err != nil {
		m.t.Fatal(err)
	}
	return ca
}

// member is a certificate that was signed at a given time.
func member(t testing.TB, ca *identity.CA, key ed25519.PublicKey, at time.Time) string {
	t.Helper()
	der, err := ca.SignMember(key, "carol", at, at)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestWrongStarts: a hub or an agent that cannot run says why and ends, and what was there is as it was.
func TestWrongStarts(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	stopped := m.addAgent("ep-bob", "bob")
	stopped.stop()
	database := filepath.Join(stopped.data, "agent.db")
	intact, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(name, file string, damage func(b []byte) []byte) string {
		t.Helper()
		if err := os.Mkdir(m.path(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(m.path(name), file), damage(append([]byte(nil), intact...)), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	noise := random(t, "damage", 1<<16)
	torn := func(b []byte) []byte { return b[:len(b)/2+100] }
	overwritten := func(b []byte) []byte { copy(b[8192:], noise); return b }
	text := func([]byte) []byte { return []byte("this is no database\n") }
	readOnly := mounted(t, "", syscall.MS_RDONLY)
	full := mounted(t, "size=8k", 0)
	free := strconv.Itoa(freePort(t))
	hub := "run hub --listen 127.0.0.1:" + free + " "
	newHub := hub + "--names 127.0.0.1:" + free + " "

	for _, w := range []mistake{
		{"agent: the directory of another", "run agent --data ep-root", failed, []string{"another", "is using", "agent.db"}},
		{"agent: torn database", "run agent --data " + damaged("torn", "agent.db", torn), failed, []string{"torn/agent.db"}},
		{"agent: overwritten database", "run agent --data " + damaged("overwritten", "agent.db", overwritten), failed, []string{"overwritten/agent.db"}},
		{"agent: no database", "run agent --data " + damaged("text", "agent.db", text), failed, []string{"text/agent.db"}},
		{"agent: full disk", "run agent --data " + full, failed, []string{full, "no space"}},
		{"agent: file for a directory", "run agent --data root.json", failed, []string{"root.json", "not a directory"}},
		{"agent: proxy of an unknown kind", "run agent --data new --proxy ftp://x", usage, []string{"ftp://x", "socks5://"}},
		{"agent: argument", "run agent new", usage, []string{`"new"`}},
		{"agent: half of what joining takes", "run agent --data new --join demo", usage, []string{"--join-as", "--permit"}},
		{"agent: permit that is not there", "run agent --data new --join demo --join-as x --permit nofile", failed, []string{"nofile"}},
		{"agent: name that is taken", "run agent --data new --join demo --join-as ep-root --permit root.json", failed, []string{"ep-root", "taken"}},
		{"hub: the directory of another", hub + "--data hub", failed, []string{"another", "is using", "hub.db"}},
		{"hub: port in use", "run hub --data new --listen " + m.listen + " --names " + m.listen + " --permit new.json", failed, []string{m.listen, "in use"}},
		{"hub: torn database", hub + "--data " + damaged("torn-hub", "hub.db", torn), failed, []string{"torn-hub/hub.db"}},
		{"hub: read-only directory", newHub + "--data " + readOnly, failed, []string{readOnly, "read-only"}},
		{"hub: full disk", newHub + "--data " + full, failed, []string{full, "no space"}},
		{"hub: new mesh without names", hub + "--data new", usage, []string{"names", "host:port"}},
		{"hub: name without port", hub + "--data new --names localhost", usage, []string{`"localhost"`, "host:port"}},
		{"hub: address that is none", "run hub --data new --names localhost:1 --listen nonsense", usage, []string{"nonsense"}},
		{"hub: permit in a directory that is not there", newHub + "--data new --permit no/new.json", failed, []string{"permit", "no/"}},
		{"client: no agent", "--data new get ep", failed, []string{"is it running?", "ztm run agent --data new"}},
	} {
		t.Run(w.name, func(t *testing.T) {
			w.check(t, func(args ...string) result { return m.run(nil, nil, args...).withoutLog() })
		})
	}
	t.Run("agent: directory of another user", func(t *testing.T) {
		dir := sharedDir(t)
		mistake{args: "run agent --data " + dir, status: failed, want: []string{dir, "not permitted"}}.check(t, func(args ...string) result {
			return m.runAsNobody(args...).withoutLog()
		})
	})
	for name, want := range map[string][]byte{"torn/agent.db": torn(append([]byte(nil), intact...)), "text/agent.db": text(nil)} {
		got, err := os.ReadFile(m.path(name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s was changed", name)
		}
	}
	if _, err := os.Stat(m.path("new.json")); !os.IsNotExist(err) {
		t.Errorf("a hub that did not start left a root permit: %v", err)
	}
	// The mesh of those that were there is well.
	stopped.start()
	stopped.awaitConnected()
}

// sharedDir makes a directory in which all may look and only root may write.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(workspace, "root-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runAsNobody is run for a user who owns nothing.
func (m *mesh) runAsNobody(args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	const nobody = 65534
	cmd := m.command(ctx, "hub", args...)
	cmd.Dir = "/"
	cmd.Env = append(cmd.Env, "HOME=/")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return finish(cmd, nil, args)
}

// withoutLog leaves the messages of the log out of what was printed to standard error.
func (r result) withoutLog() result {
	var kept strings.Builder
	for line := range strings.Lines(r.stderr) {
		if !strings.HasPrefix(line, "time=") {
			kept.WriteString(line)
		}
	}
	r.stderr = kept.String()
	return r
}

// mounted mounts an empty file system in memory and returns where.
func mounted(t testing.TB, options string, flags uintptr) string {
	t.Helper()
	dir, err := os.MkdirTemp(workspace, "mount-")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("ztm-e2e", dir, "tmpfs", flags, options); err != nil {
		missing(t, "cannot mount a file system: "+err.Error())
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}
