// Package run keeps the processes of apps of others: one process, with all that it starts, for each
// app.
//
//	Runner.Dial -> is it running? -- no --> start: sockets, log, confine.Start -> the program accepts on descriptor 3
//	            -> a connection to it
//	the program ends -> what it started is killed -> sockets go -> back-off, or no more after ten failures
//	nobody asks for long -> SIGTERM -> 5 s -> SIGKILL, for all of the session
//	the agent is killed  -> the kernel kills the program, and the warden (warden.go) all that it started
//
// A program is handed a listening socket that is there before the program runs: a connection waits
// in it until the program accepts, and ends when the program does. Nothing is written to disk but
// what the program writes to its own directory: sockets are in the directory for temporary files,
// under a name that nobody can guess.
package run

import (
	"log/slog"
	"net/http"
	"sync"
	"time"

	"ztm/apps/external/confine"
	"ztm/apps/external/manifest"
)

// Spec is what a program is started from.
type Spec struct {
	Manifest   manifest.Manifest
	Dir        string // of the version
	Data       string // what the program writes to; it is made
	Unconfined bool   // it may run where nothing can hold it
}

// Config is what a [Runner] needs.
type Config struct {
	Spec func() (Spec, error) // asked at each start; an error is the reason why it is not started
	API  http.Handler         // what the program is answered on its socket ZTM_API
	Log  *slog.Logger

	// Idle is how long a program runs without connections; 0 is as long as the agent.
	Idle time.Duration
}

// Group is what the apps of one mesh share.
type Group struct {
	mesh   string
	find   func() (confine.Means, error)
	cgroup func() string // in which groups of apps are made, "" for none
	grace  time.Duration // what a program has to end after SIGTERM
	every  time.Duration // see defaultEvery
	warden warden
}

// NewGroup makes a group of the apps of a mesh.
func NewGroup(mesh string) *Group {
	return &Group{mesh: mesh, find: sync.OnceValues(confine.Find), cgroup: sync.OnceValue(func() string { return given(cgroups, ownCgroup, delegated) }), grace: defaultGrace, every: defaultEvery}
}

// Means says what holds programs on this machine. The first call takes some milliseconds.
func (g *Group) Means() (confine.Means, error) { return g.find() }

// Close ends what the group has started for itself. All runners have to be closed before.
func (g *Group) Close() { g.warden.close() }

// New makes the runner of an app. It runs nothing until it is asked.
func (g *Group) New(id string, c Config) *Runner {
	return &Runner{id: id, group: g, config: c, ring: newRing()}
}
