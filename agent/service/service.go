// Package service installs the hub and the agent as services of the system, which are started at
// boot and restarted when they end.
//
//	ztm start agent --data /etc/ztm
//	  -> Spec     what to run: role, options, account
//	  -> System   the service manager of this machine
//	  -> Plan     files to write and commands to run; --print shows it
//	  -> Install  carries it out
//
// A plan is plain text that does not depend on the machine, so that the plan of each system can be
// read and tested on every other. A plan never holds a secret: options with one are refused. The
// program reads secrets from the file "environment" in its data directory, see package daemon. This
// package does not know what the hub and the agent do.
package service

import (
	"fmt"
	"io"
	"io/fs"
	"strings"

	"ztm/tunnel/shellwords"
)

// Spec is a service to be installed.
type Spec struct {
	Role    string   // "hub" or "agent"
	Exe     string   // the program; absolute
	Options []string // what follows `ztm run ROLE`: "--name=value"
	Data    string   // the data directory; absolute
	Writes  []string // further directories that it writes to
	Account string   // that it runs as; empty is the account of the service manager: root, or the user if Own
	Dynamic bool     // systemd allocates an account and keeps Data in its own directory
	Own     bool     // a service of this user, without root
	Home    string   // the user's home directory, if Own
	Prefix  string   // where Termux is
}

// Name returns the name of the service.
func (s Spec) Name() string { return "ztm-" + s.Role }

// Command returns the command line that the service runs.
func (s Spec) Command() []string { return append([]string{s.Exe, "run", s.Role}, s.Options...) }

// File is a file that a plan writes.
type File struct {
	Path string
	Mode fs.FileMode
	Text string
	Keep bool // an existing file is not replaced
}

// Command is a command that a plan runs.
type Command struct {
	Args []string
	Try  bool // a failure is ignored
}

// Plan installs one service on one system.
type Plan struct {
	System string
	Name   string // of the service, as the system calls it
	Dirs   []string
	Files  []File
	Start  []Command // enable and start it, after Files were written; they restart a running service
	Stop   []Command // stop and disable it
	Status Command   // succeeds while the service runs
	Remove []Command // after Stop and after Files were removed
	Hint   string    // where the log is
}

// System is a kind of service manager.
type System struct {
	Name string
	Own  bool // it has services of users
	Plan func(Spec) Plan
}

// Systems returns all known service managers: those of Linux, and of other systems where this is not
// the router profile.
func Systems() []System {
	return append([]System{
		{Name: "systemd", Own: true, Plan: systemd},
		{Name: "procd", Plan: procd},
		{Name: "openrc", Plan: openrc},
		{Name: "sysv", Plan: sysv},
		{Name: "termux", Own: true, Plan: termux},
	}, elsewhere()...)
}

// names are those of all known service managers.
func names() string {
	var all []string
	for _, s := range Systems() {
		all = append(all, s.Name)
	}
	return strings.Join(all, ", ")
}

// SystemNamed returns the service manager with that name.
func SystemNamed(name string) (System, error) {
	for _, s := range Systems() {
		if s.Name == name {
			return s, nil
		}
	}
	return System{}, fmt.Errorf("unknown service manager %q: known are %s", name, names())
}

// Print writes the files and commands of the plan.
func (p Plan) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range p.Files {
		note := ""
		if f.Keep {
			note = ", unless it is there"
		}
		fmt.Fprintf(&b, "# %s (mode %04o%s)\n%s\n", f.Path, f.Mode, note, strings.TrimRight(f.Text, "\n")+"\n")
	}
	words := shellwords.POSIX
	if p.System == "windows" {
		words = shellwords.Windows
	}
	for _, c := range p.Start {
		fmt.Fprintf(&b, "$ %s\n", words(c.Args...))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// run returns a command that must succeed.
func run(args ...string) Command { return Command{Args: args} }

// try returns a command that may fail.
func try(args ...string) Command { return Command{Args: args, Try: true} }
