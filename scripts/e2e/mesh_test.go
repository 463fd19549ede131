//go:build linux

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mesh is a hub and agents that run.
type mesh struct {
	t      testing.TB
	binary string // of the hub and the agents
	client string // of commands
	dir    string
	port   int // the hub listens on it
	name   string
	hub    *process
	root   *agent            // the first agent; its user is root
	agents []*agent          // all of them
	builds map[string]string // of agents that run another binary, and of commands typed there, by the agent's name

	options
}

// options change how a mesh is set up.
type options struct {
	binary    func() (string, error)    // nil: plain
	names     string                    // under which agents reach the hub; empty: its port on this machine
	hubArgs   []string                  // more arguments of the hub
	agentArgs []string                  // more arguments of agents
	env       []string                  // more environment of agents
	wrap      func(who string) []string // words before the command line of the hub or an agent: `ip netns exec ...`
	listen    string                    // of the hub; empty: the port on this machine
}

// agent is a device of a mesh.
type agent struct {
	*process
	mesh *mesh
	name string // in the mesh
	user string
	data string
}

// newMesh starts a hub and the first agent, ep-root, and lets it join.
func newMesh(t testing.TB, o options) *mesh {
	t.Helper()
	m := newHub(t, o)
	m.root = m.newAgent("ep-root", "root")
	m.root.ztm("join", m.name, "--as", "ep-root", "--permit", m.path("root.json"))
	m.root.awaitConnected()
	return m
}

// newHub starts a hub alone.
func newHub(t testing.TB, o options) *mesh {
	t.Helper()
	if o.binary == nil {
		o.binary = plain
	}
	binary, err := o.binary()
	if err != nil {
		t.Fatal(err)
	}
	client, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(workspace, "mesh-")
	if err != nil {
		t.Fatal(err)
	}
	m := &mesh{t: t, binary: binary, client: client, dir: dir, port: freePort(t), name: "demo", options: o}
	if m.listen == "" {
		m.listen = loopback(m.port)
	}
	if m.names == "" {
		m.names = m.listen
	}
	m.startHub()
	t.Cleanup(m.end)
	return m
}

// end stops everything in order and looks at how it ended.
func (m *mesh) end() {
	for _, a := range m.agents {
		a.end()
	}
	if m.hub.running() {
		if status := m.hub.stop(); status != 0 {
			m.t.Errorf("the hub was asked to stop and ended with status %d", status)
		}
	}
	m.hub.examine()
}

func (m *mesh) path(name string) string { return filepath.Join(m.dir, name) }

// command is the binary under test, called where who lives.
func (m *mesh) command(ctx context.Context, who string, args ...string) *exec.Cmd {
	binary := m.binary
	if args[0] != "run" { // a client of the agent
		binary = m.client
	}
	if b := m.builds[who]; b != "" {
		binary = b
	}
	words := append([]string{binary}, args...)
	if m.wrap != nil {
		words = append(m.wrap(who), words...)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Dir = m.dir
	cmd.Env = append(cleanEnvironment(), "HOME="+m.dir)
	return cmd
}

// cleanEnvironment is this process's environment without what would change the program under test.
func cleanEnvironment() []string {
	var out []string
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch {
		case strings.HasPrefix(name, "ZTM_"), strings.HasPrefix(strings.ToUpper(name), "HTTP"), name == "HOME":
		default:
			out = append(out, v)
		}
	}
	return out
}

// startHub starts the hub, with the state it had, and waits until it answers.
func (m *mesh) startHub() {
	m.t.Helper()
	args := append([]string{"run", "hub", "--data", m.path("hub"), "--listen", m.listen, "--names", m.names,
		"--permit", m.path("root.json")}, m.hubArgs...)
	hub := launch(m.t, "hub", m.command(context.Background(), "hub", args...))
	m.hub = hub
	await(m.t, "the hub runs", func() bool {
		if !hub.running() {
			m.t.Fatalf("the hub ended with status %d:\n%s", hub.wait(), hub.output())
		}
		return strings.Contains(hub.output(), "hub is running")
	})
}

// newAgent starts an agent that has joined nothing.
func (m *mesh) newAgent(name, user string) *agent {
	m.t.Helper()
	a := &agent{mesh: m, name: name, user: user, data: m.path(name)}
	m.agents = append(m.agents, a)
	a.start()
	return a
}

// addAgent starts an agent and has it join as a user, with a permit that root makes for its key.
func (m *mesh) addAgent(name, user string) *agent {
	m.t.Helper()
	a := m.newAgent(name, user)
	a.joinBy(m.invite(a, user))
	return a
}

// invite makes a permit for an agent's key, and returns its path.
func (m *mesh) invite(a *agent, user string) string {
	m.t.Helper()
	key, permit := m.path(a.name+".pub"), m.path(a.name+".json")
	if err := os.WriteFile(key, []byte(a.ztm("identity")), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.root.ztm("invite", user, "--identity", key, "--permit", permit)
	return permit
}

func (a *agent) joinBy(permit string) {
	a.t.Helper()
	a.ztm("join", a.mesh.name, "--as", a.name, "--permit", permit)
	a.awaitConnected()
}

// start starts the agent, with the state it had, and waits until it answers.
func (a *agent) start(args ...string) {
	m := a.mesh
	m.t.Helper()
	args = append(append([]string{"run", "agent", "--data", a.data}, m.agentArgs...), args...)
	cmd := m.command(context.Background(), a.name, args...)
	cmd.Env = append(cmd.Env, m.env...)
	a.process = launch(m.t, a.name, cmd)
	await(m.t, a.name+" answers", func() bool {
		if !a.running() {
			m.t.Fatalf("%s ended with status %d:\n%s", a.name, a.wait(), a.output())
		}
		return a.try("get", "mesh").status == 0
	})
}

// end stops the agent and looks at how it ended.
func (a *agent) end() {
	if a.process == nil {
		return
	}
	if a.running() {
		if status := a.stop(); status != 0 {
			a.t.Errorf("%s was asked to stop and ended with status %d", a.name, status)
		}
	}
	a.examine()
}

// result is what a command line printed and how it ended.
type result struct {
	args           []string
	stdout, stderr string
	status         int
}

func (r result) String() string {
	return fmt.Sprintf("ztm %s\nexit status %d\n%s%s", strings.Join(r.args, " "), r.status, r.stdout, r.stderr)
}

// try runs a command line against the agent. The agent is named by the environment, as a person would name it.
func (a *agent) try(args ...string) result { return a.mesh.run(a, nil, args...) }

// ztm is try for what must succeed, in silence on standard error. It returns what was printed.
func (a *agent) ztm(args ...string) string {
	a.t.Helper()
	r := a.try(args...)
	if r.status != 0 || r.stderr != "" {
		a.t.Fatal(r)
	}
	return r.stdout
}

// run runs a command line with input. It may take as long as timeout.
func (m *mesh) run(a *agent, stdin []byte, args ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	who := "hub"
	if a != nil {
		who = a.name
	}
	cmd := m.command(ctx, who, args...)
	if a != nil {
		cmd.Env = append(cmd.Env, "ZTM_DATA="+a.data)
	}
	return finish(cmd, stdin, args)
}

// finish runs a command to its end.
func finish(cmd *exec.Cmd, stdin []byte, args []string) result {
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	r := result{args: args}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		r.status = -1
		stderr.WriteString(err.Error())
	} else {
		r.status = cmd.ProcessState.ExitCode()
	}
	r.stdout, r.stderr = stdout.String(), stderr.String()
	return r
}

// status returns the agent's word on its connection to the mesh.
func (a *agent) status() string {
	var meshes []struct{ Status string }
	r := a.try("get", "mesh", "-o", "json")
	if r.status != 0 || json.Unmarshal([]byte(r.stdout), &meshes) != nil || len(meshes) == 0 {
		return ""
	}
	return strings.ToLower(meshes[0].Status)
}

// awaitConnected waits until the agent has its control session, and returns how long that took.
func (a *agent) awaitConnected() time.Duration {
	a.t.Helper()
	return await(a.t, a.name+" is connected to the hub", func() bool { return a.status() == "connected" })
}

// tunnel makes a port here a service at another agent, and returns the port's address.
func (a *agent) tunnel(name string, exit *agent, target string) string {
	a.t.Helper()
	exit.ztm("tunnel", "open", "outbound", "tcp/"+name, "--targets", target, "--users", a.user)
	await(a.t, a.name+" sees tunnel "+name, func() bool {
		return strings.Contains(a.ztm("get", "ep", "--online", "--offer", "tunnel/tcp/"+name), exit.name)
	})
	address := loopback(freePort(a.t))
	a.ztm("tunnel", "open", "inbound", "tcp/"+name, "--listen", address)
	return address
}
