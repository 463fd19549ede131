//go:build linux

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// machine is a person's shell on a device: its own home directory, the program in the path, files of the mesh at hand.
type machine struct {
	t    testing.TB
	home string
	path string
	dir  string // working directory
}

// command is a line as it is typed.
func (m machine) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir = m.dir
	for _, v := range cleanEnvironment() {
		if !strings.HasPrefix(v, "PATH=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+m.home, "PATH="+m.path+":"+os.Getenv("PATH"))
	return cmd
}

// types types a line and returns what was printed. The line must succeed.
func (m machine) types(line string) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r := finish(m.command(ctx, line), nil, []string{line})
	if r.status != 0 || r.stderr != "" {
		m.t.Fatal(r)
	}
	return r.stdout
}

// says types a line and looks at what is printed.
func (m machine) says(line, want string) {
	m.t.Helper()
	if got := m.types(line); !regexp.MustCompile(want).MatchString(got) {
		m.t.Errorf("%s\n%s\nwant a match of %s", line, got, want)
	}
}

// runs starts a line that goes on.
func (m machine) runs(name, line string) *process {
	m.t.Helper()
	return launch(m.t, name, m.command(context.Background(), "exec "+line))
}

// TestTypicalSession: the reference product's typical session works as typed, with the words that it prints; and what was set up is there again after everything was started anew.
func TestTypicalSession(t *testing.T) {
	t.Parallel()
	binary, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(workspace, "session-")
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer web.Close()
	target := strings.TrimPrefix(web.URL, "http://")
	hubPort, listen := freePort(t), freePort(t)
	on := func(name string) machine {
		home := filepath.Join(dir, name)
		if err := os.Mkdir(home, 0o700); err != nil {
			t.Fatal(err)
		}
		return machine{t: t, home: home, path: dir + "/bin", dir: dir}
	}
	hub, root, bob := on("hub"), on("root"), on("bob")
	if err := os.Mkdir(hub.path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary, filepath.Join(hub.path, "ztm")); err != nil {
		t.Fatal(err)
	}

	h := hub.runs("hub", fmt.Sprintf("ztm run hub --listen 0.0.0.0:%d --names 127.0.0.1:%d --permit root.json", hubPort, hubPort))
	await(t, "the hub says how to join", func() bool {
		return strings.Contains(h.output(), "A permit file is saved to "+filepath.Join(dir, "root.json")) &&
			strings.Contains(h.output(), "ztm join my-mesh --as my-first-ep --permit root.json") && strings.Contains(h.output(), "hub is running")
	})
	agents := []*process{root.runs("root", "ztm run agent"), bob.runs("bob", "ztm run agent")}
	for _, m := range []machine{root, bob} {
		await(t, "the agent runs", func() bool { return m.command(context.Background(), "ztm get mesh").Run() == nil })
	}
	root.says("ztm join demo --as ep-root --permit root.json", `^$`)
	bob.says("ztm identity > bob.pub", `^$`)
	root.says("ztm invite bob --identity bob.pub --permit bob.json", `^$`)
	bob.says("ztm join demo --as ep-bob --permit bob.json", `^$`)
	bob.says("ztm tunnel open outbound tcp/web --targets "+target+" --users root alice 2> warnings", `tcp/web +`+target+` .*root, ?alice`)
	bob.says("cat warnings", `alice`) // who is not in the mesh yet
	root.says(fmt.Sprint("ztm tunnel open inbound  tcp/web --listen ", listen), fmt.Sprintf(`tcp/web +127.0.0.1:%d `, listen))

	fetch := fmt.Sprintf("curl --silent --show-error --fail --retry 20 --retry-all-errors --retry-delay 1 http://127.0.0.1:%d/bob.pub", listen)
	program(t, "curl", "curl")
	root.says(fetch+" 2> retries", `^-----BEGIN PUBLIC KEY-----`)

	root.says("ztm get mesh", fmt.Sprintf(`(?m)^NAME +JOINED AS +USER +HUBS +STATUS\ndemo +ep-root +root +127.0.0.1:%d +Connected$`, hubPort))
	root.says("ztm get ep", `(?m)^NAME +USER +IP +PORT +STATUS .*ID .*VERSION +LABELS\nep-bob +bob +127.0.0.1 +\d+ +Online .*\nep-root \(local\) +root +127.0.0.1 +\d+ +Online `)
	root.says("ztm get hub", fmt.Sprintf(`(?m)^127.0.0.1:%d +Attached `, hubPort))
	root.says("ztm get tunnel", `(?m)^NAME +INBOUND +OUTBOUND\ntcp/web +ep-root +ep-bob`)
	root.says("ztm ping ep ep-bob", `(?m)^Endpoint +ep-root .*\nHub +.*\nEndpoint +ep-bob `)
	root.says("ztm describe ep ep-bob", `(?m)^Endpoint: +ep-bob\n(.*\n)*Username: +bob\n(.*\n)*Status: +Online`)
	root.says("ztm stats ep", `(?m)^ep-bob +`)
	root.says("ztm label --add env:prod web", `(?s)env:prod\nweb`)
	bob.says("ztm get ep -o wide", `env:prod`)
	root.says("ztm mesh demo get ep -o json | python3 -c 'import json,sys; print(len(json.load(sys.stdin)))'", `^2\n$`)
	root.says("ztm ep demo/ep-root get inbound", `tcp/web`)
	root.says("ztm config --mesh demo && ztm config", `demo`)
	root.says("ztm completion bash | bash -n", `^$`)
	bob.says("ztm terminal config --add-user root", `root`)
	root.says("ztm terminal open ep-bob -- echo hello", `^hello\r?\n$`)
	root.says("ztm terminal open ep-bob -- sh -c 'exit 7' || echo status $?", `^status 7\n$`)
	socks := freePort(t)
	root.says("ztm proxy config --add-target 0.0.0.0/0 127.0.0.1/32 '*'", `0\.0\.0\.0/0`)
	root.says(fmt.Sprint("ztm proxy config --set-listen 127.0.0.1:", socks), fmt.Sprint("127.0.0.1:", socks))
	root.says(fmt.Sprintf("curl --silent --show-error --fail --proxy socks5h://127.0.0.1:%d http://%s/bob.pub", socks, target), `^-----BEGIN PUBLIC KEY-----`)

	var version struct{ Go, OS, Arch string }
	if err := json.Unmarshal([]byte(root.types("ztm version --json")), &version); err != nil || version.Go == "" || version.OS != "linux" || version.Arch == "" {
		t.Errorf("version: %+v, %v", version, err)
	}

	// All is there again after a restart, this time by the names that were linked.
	for _, p := range append(agents, h) {
		if status := p.stop(); status != 0 {
			t.Errorf("%s ended with status %d", p.name, status)
		}
	}
	links := filepath.Join(dir, "links")
	if err := os.Mkdir(links, 0o755); err != nil {
		t.Fatal(err)
	}
	hub.says("ztm install-links "+links, `^$`)
	agents = []*process{root.runs("root", links+"/ztm-agent"), bob.runs("bob", links+"/ztm-agent")}
	h = hub.runs("hub", fmt.Sprintf("%s/ztm-hub --listen 0.0.0.0:%d", links, hubPort))
	root.says(fetch+" 2> retries", `^-----BEGIN PUBLIC KEY-----`)
	for _, p := range append(agents, h) {
		if status := p.stop(); status != 0 {
			t.Errorf("%s ended with status %d", p.name, status)
		}
		p.examine()
	}
}

// TestContainer: an agent that is told what to join when it starts waits for its hub, joins, and takes no harm from
// being told again.
func TestContainer(t *testing.T) {
	t.Parallel()
	m := newMesh(t, options{})
	permit := m.path("token.json")
	m.root.ztm("invite", "bob", "--permit", permit)
	m.hub.stop()

	box := &agent{mesh: m, name: "box", user: "bob", data: m.path("box")}
	m.agents = append(m.agents, box)
	join := []string{"--join", "demo", "--join-as", "box", "--permit", permit}
	box.start(join...)
	await(t, "the agent says that it waits", func() bool { return strings.Contains(box.output(), "cannot join yet") })
	m.startHub()
	took := box.awaitConnected()
	t.Logf("joined %v after the hub came", took.Round(10*time.Millisecond))
	box.stop()
	box.start(join...) // the token has been used: it must not be used again
	box.awaitConnected()
	if err := echo(m.root.tunnel("echo", box, echoes(t).address())); err != nil {
		t.Error(err)
	}
	if got, want := strings.Count(m.root.ztm("get", "ep"), "\n"), 3; got != want {
		t.Errorf("get ep printed %s lines, want %d", strconv.Itoa(got), want)
	}
}
