// Package confine starts a program of others so that it can do what it was allowed and nothing
// else.
//
//	agent: Find, once -> Means -> Start(Order): this binary again, in namespaces of its own where there are some
//	the new process: Main -> a file system with little in it -> limits -> an account of its own, no capabilities
//	    -> dies with the agent -> no new privileges -> Landlock -> seccomp -> the limit of memory -> exec of the program
//
// Go cannot run code between fork and exec, so this binary starts itself under the name [Applet] and
// takes the steps there, on one thread, until it becomes the program. A step that fails ends the
// start: a program runs with all of its fences or not at all.
//
// What a system has is found out by doing it: Find starts the same process with an order to take all
// steps and end. Nothing is probed on Android, which kills who asks.
package confine

import (
	"errors"
	"os"
)

// Applet is the name under which this binary is started to become a program of others.
const Applet = "ztm-app-start"

// Order says what to start, and what it may.
type Order struct {
	Path string   `json:"path"` // of the program, absolute
	Args []string `json:"args"` // with the program's name
	Env  []string `json:"env"`
	Dir  string   `json:"dir"` // of the app: it may be read, and its programs run; the working directory

	Data    string `json:"data"`    // the one directory that may be written to
	Sockets string `json:"sockets"` // a directory of sockets that it may connect to
	Scratch string `json:"scratch"` // an empty directory, for the steps before the program

	Net  bool `json:"net,omitempty"`  // may use the network
	Exec bool `json:"exec,omitempty"` // may run the programs of the machine

	Memory    int64 `json:"memory"`    // bytes of data of each process
	Processes int   `json:"processes"` // processes and threads

	Cgroup string `json:"cgroup,omitempty"` // to enter first; "" for none
	UID    uint32 `json:"uid,omitempty"`    // the account to become, where the agent is root
	Parent int    `json:"parent"`           // the process with which it dies
	Means  Means  `json:"means"`
	Try    bool   `json:"try,omitempty"` // take all steps but the last, and end with status 0

	others int64 // tasks that the account has beside those of the app; set on the way
}

// Means is what holds a program on this machine. The zero value holds nothing.
type Means struct {
	Root      string `json:"root,omitempty"`      // "root" or "user": it sees a file system of its own, made by root or in a namespace of users
	Network   bool   `json:"network,omitempty"`   // without the right to use the network it has a namespace without one
	Landlock  int    `json:"landlock,omitempty"`  // the version of the kernel's Landlock; 0 is none
	Filter    bool   `json:"filter,omitempty"`    // system calls are filtered
	Unbounded bool   `json:"unbounded,omitempty"` // processes cannot be counted: the account is the agent's own, root
}

// ErrUnable is matched by errors that say why a program cannot be held on this machine.
var ErrUnable = errors.New("programs of others cannot be confined here")

// socketsHeld is the version of Landlock that keeps a program from sockets with a name.
const socketsHeld = 9

// Holds reports whether these means keep a program from the files and the network of the machine. A
// program that stays root can connect to every socket with a name, such as that of a container
// engine, which makes it master of the machine: then Landlock has to know of sockets.
func (m Means) Holds() bool {
	if m.Unbounded && m.Root == "" && m.Landlock < socketsHeld {
		return false
	}
	return (m.Root != "" || m.Landlock > 0) && m.Filter
}

// String says for people what holds a program.
func (m Means) String() string {
	text := ""
	add := func(has bool, what string) {
		if has && text != "" {
			text += ", "
		}
		if has {
			text += what
		}
	}
	add(m.Root == "root", "own account and file system")
	add(m.Root == "user", "own file system")
	add(m.Network, "own network")
	add(m.Landlock > 0, "Landlock")
	add(m.Filter, "system call filter")
	if text == "" {
		return "nothing"
	}
	return text
}

// Start starts an order, with the files as descriptors from 0 on. It must be called on a thread that
// lives as long as the process (see [runtime.LockOSThread]): a process dies with the thread that
// started it. The process is the leader of a session of its own.
func Start(o Order, files []*os.File) (*os.Process, error) { return start(o, files) }

// Startable says why no program of others can be started on this system, whatever holds it; nil where
// one can.
func Startable() error { return startable() }

// Find finds out what can hold a program on this machine. It takes some milliseconds. An error
// matches [ErrUnable].
func Find() (Means, error) { return find() }

// Main is the process that becomes a program: args are the command line without the name of the
// program. It returns, with a status to end with, where the program was not started.
func Main(args []string) int { return launch(args) }
