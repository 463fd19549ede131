// Package console is the command line: a client of the agent that runs on this machine.
//
//	words -> grammar -> command -> Console -> agent/api over the agent's socket -> table, JSON or YAML
//
// A command line chooses an agent (its data directory), a mesh and an endpoint, by options, by the
// prefixes `mesh` and `ep`, by the environment, and by the configuration in the home directory. A
// [Console] knows what was chosen and talks to the agent on behalf of the commands; the apps'
// commands see it as [apps.Console]. It holds no state of the mesh, no key and no permit, and it
// decides nothing: what a user may do is decided by the agents and the hub.
package console

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"

	"ztm/agent/api"
	"ztm/apps"
)

// Config is what a command line gets from its process.
type Config struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string // HOME, ZTM_DATA, ZTM_MESH
	Version        api.Version         // of this binary

	// Missing names the feature that a command comes with and that this binary was built without;
	// "" is no such command. nil knows none.
	Missing func(command string) string
}

// Console runs command lines, one at a time. Its methods that talk to the agent may be called from
// any goroutine, by the command that runs.
type Console struct {
	cfg   Config
	known apps.Commands // see Know

	// Chosen by the command line before its command runs.
	data     string // directory of the agent
	homeless error  // why none is known; nil: data is
	mesh     string // given with a prefix; empty chooses by itself
	fallback string // mesh to choose if several are joined
	endpoint string // given with a prefix; empty is the agent's own
	format   string // of Print

	mu     sync.Mutex
	found  *api.Mesh      // guarded by mu; the chosen mesh once it is known
	chosen *apps.Endpoint // guarded by mu; the chosen endpoint once it is known
	passed []string       // guarded by mu; warnings of the agent that were printed
	mute   bool           // guarded by mu; they are not printed
}

var _ apps.Console = (*Console)(nil)

// New returns a console. A nil stream is empty, a nil Getenv knows no variable.
func New(cfg Config) *Console {
	if cfg.Stdin == nil {
		cfg.Stdin = eof{}
	}
	if cfg.Stdout == nil {
		cfg.Stdout = io.Discard
	}
	if cfg.Stderr == nil {
		cfg.Stderr = io.Discard
	}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	return &Console{cfg: cfg}
}

// Know tells what the apps know beside their commands: what names in capitals can stand for, and
// which commands installed programs bring. It is called before Run.
func (c *Console) Know(more apps.Commands) { c.known = more }

// forget makes ready for another command line.
func (c *Console) forget() {
	c.data, c.mesh, c.fallback, c.endpoint, c.format = "", "", "", "", "table"
	c.homeless = nil
	c.mu.Lock()
	c.found, c.chosen, c.passed, c.mute = nil, nil, nil, false
	c.mu.Unlock()
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// Stdin returns the standard input of the command.
func (c *Console) Stdin() io.Reader { return c.cfg.Stdin }

// Stdout returns the standard output of the command.
func (c *Console) Stdout() io.Writer { return c.cfg.Stdout }

// Stderr returns the standard error of the command.
func (c *Console) Stderr() io.Writer { return c.cfg.Stderr }

// DataDir returns the data directory that was chosen, or why there is none. It is known when a command
// runs, not before.
func (c *Console) DataDir() (string, error) { return c.data, c.homeless }

// Note tells a person at the terminal what was done. It is silent where nobody watches: success
// needs no words.
func (c *Console) Note(format string, args ...any) {
	if terminal(c.cfg.Stderr) {
		fmt.Fprintln(c.cfg.Stderr, apps.Printable(fmt.Sprintf(format, args...)))
	}
}

// Waits tells on standard error, whoever reads it, what the command waits for.
func (c *Console) Waits(format string, args ...any) {
	fmt.Fprintln(c.cfg.Stderr, apps.Printable(fmt.Sprintf(format, args...)))
}

// Warn tells on standard error, whoever reads it, that what succeeded may not be what was meant.
func (c *Console) Warn(format string, args ...any) {
	fmt.Fprintln(c.cfg.Stderr, "warning:", apps.Printable(fmt.Sprintf(format, args...)))
}

// pass prints warnings of the agent, each once for a command line.
func (c *Console) pass(warnings []string) {
	for _, w := range warnings {
		c.mu.Lock()
		known := c.mute || slices.Contains(c.passed, w)
		c.passed = append(c.passed, w)
		c.mu.Unlock()
		if !known {
			c.Warn("%s", w)
		}
	}
}

// terminal reports whether a person reads w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || f.Name() == os.DevNull {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&fs.ModeCharDevice != 0
}
