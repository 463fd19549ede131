// Package service makes hub and agent services of the system: started at boot, started again when they end.
//
//	ztm start agent --data /etc/ztm
//	  -> Spec     what is to run: role, options, account
//	  -> System   which of the systems below this machine has
//	  -> Plan     files to write and commands to run: what --print shows
//	  -> Install  does it
//
// A plan is plain text, made without looking at the machine, so that each system's can be read and tested on any other. What
// is written says only where things are: no plan holds a secret, and options with one are refused. It knows nothing
// of what hub and agent do.
package service

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Spec is a service to be made.
type Spec struct {
	Role    string   // "hub" or "agent"
	Exe     string   // the program; absolute
	Options []string // what follows `ztm run ROLE`: "--name=value"
	Data    string   // the data directory; absolute
	Writes  []string // further directories that it writes to
	Account string   // that it runs under; empty: the one that starts services, which is root for the machine's
	Dynamic bool     // systemd invents an account for it and keeps Data in its own place
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
	Keep bool // is left as it is if it is there
}

// Command is a command that a plan runs.
type Command struct {
	Args []string
	Try  bool // its failure does not matter
}

// Plan is how one system keeps one service.
type Plan struct {
	System string
	Name   string // of the service, as the system calls it
	Dirs   []string
	Files  []File
	Start  []Command // enables and starts, after Files were written; what runs already is replaced
	Stop   []Command // stops and disables
	Status Command   // succeeds while the service runs
	Remove []Command // after Stop and after Files were removed
	Hint   string    // where the log is
}

// System is a kind of service manager.
type System struct {
	Name string
	Own  bool // has services of users
	Plan func(Spec) Plan
}

// Systems returns all that are known.
func Systems() []System {
	return []System{
		{Name: "systemd", Own: true, Plan: systemd},
		{Name: "procd", Plan: procd},
		{Name: "openrc", Plan: openrc},
		{Name: "sysv", Plan: sysv},
		{Name: "launchd", Own: true, Plan: launchd},
		{Name: "rc.d", Plan: freebsd},
		{Name: "windows", Plan: scm},
		{Name: "termux", Own: true, Plan: termux},
	}
}

// SystemNamed returns the system of that name.
func SystemNamed(name string) (System, error) {
	var names []string
	for _, s := range Systems() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	return System{}, fmt.Errorf("unknown service manager %q: known are %s", name, strings.Join(names, ", "))
}

// Print writes what the plan would do.
func (p Plan) Print(w io.Writer) error {
	var b strings.Builder
	for _, f := range p.Files {
		note := ""
		if f.Keep {
			note = ", unless it is there"
		}
		fmt.Fprintf(&b, "# %s (mode %04o%s)\n%s\n", f.Path, f.Mode, note, strings.TrimRight(f.Text, "\n")+"\n")
	}
	for _, c := range p.Start {
		fmt.Fprintf(&b, "$ %s\n", shellLine(c.Args))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// run is a command that must succeed.
func run(args ...string) Command { return Command{Args: args} }

// try is a command that may fail.
func try(args ...string) Command { return Command{Args: args, Try: true} }
