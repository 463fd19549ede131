// Package manifest is what an app of somebody else says of itself, and what its owner said to it.
//
//	the provider writes a Manifest -> Check -> (signed and delivered elsewhere) -> Installed, kept per
//	endpoint -> what starts the app reads Program and Rights, and nothing else of it
//
// Nothing here touches a file or a process: a manifest comes from others, and is checked before
// anything of it is believed.
package manifest

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"ztm/tunnel/identity"
)

// Limits of a manifest.
const (
	maxVersion   = 64                 // bytes
	maxLine      = 128                // bytes of a line for people, and of the path of a page
	maxTargets   = 32                 // programs for different systems
	maxWords     = 64                 // of one program, with its arguments
	maxWord      = 1024               // bytes
	maxApps      = 32                 // other apps that it may reach
	maxMemory    = 64_000_000_000     // bytes
	minMemory    = 4_000_000          // bytes; no program starts with less
	maxProcesses = 1024               // of one app
	anySystem    = "any"              // in Exec: whatever the system is
	defaultLimit = 256_000_000        // bytes of memory, if the manifest names none
	defaultCount = 32                 // processes, if the manifest names none
	defaultDisk  = 1_000_000_000      // bytes in its directory, if the manifest names none
	defaultFiles = 10_000             // files there, if the manifest names none
	maxDisk      = 16_000_000_000_000 // bytes
	maxDiskFiles = 1_000_000          // a count of them takes seconds
)

// Manifest describes one version of an app. The zero value is not valid: see [Manifest.Check].
type Manifest struct {
	Provider string `json:"provider"` // the user who publishes it
	Name     string `json:"name"`
	Version  string `json:"version"`  // for people: nothing is decided by it
	Sequence uint64 `json:"sequence"` // grows with each version; the first is 1

	// Exec says what to run: a program, a path below the directory of the app with "/", and its
	// arguments. The key is the system, as Go names it: "linux/mipsle", else "linux", else "any".
	Exec map[string][]string `json:"exec"`

	// Command says, in one line, what `ztm NAME` does; "" brings no command.
	Command string `json:"command,omitempty"`
	// Page is the path of the page that a browser is shown first, "/"; "" has no page.
	Page string `json:"page,omitempty"`

	Rights Rights `json:"rights,omitzero"`
}

// Rights is what an app asks for. The zero value is the least: its own data, the mesh's API for
// this app alone, no network, no other programs.
type Rights struct {
	// Net is "" for no network at all, "any" for whatever the machine reaches.
	Net string `json:"net,omitempty"`

	// Exec lets the app run the programs of the machine, in the same confinement.
	Exec bool `json:"exec,omitempty"`

	// Apps lists the apps at other endpoints that it may reach beside itself, as "PROVIDER/NAME".
	Apps []string `json:"apps,omitempty"`

	// Files lets the app publish files in the cloud, below a directory of its own, and read those that
	// others published with it.
	Files bool `json:"files,omitempty"`
	// Autostart starts the app with the agent, and again when it ends. Else it starts when somebody
	// asks for it, and stops when nobody does.
	Autostart bool `json:"autostart,omitempty"`

	Memory    int64 `json:"memory,omitempty"`    // bytes of data of each process; 0 is 256 MB
	Processes int   `json:"processes,omitempty"` // processes and threads; 0 is 32
	Disk      int64 `json:"disk,omitempty"`      // bytes of all that it keeps in its directory, and as many of its files in the cloud; 0 is 1 GB
	DiskFiles int   `json:"diskFiles,omitempty"` // files and directories there, and files in the cloud; 0 is 10,000
}

// AnyNet is the value of [Rights.Net] that asks for the network.
const AnyNet = "any"

// Installed is an app as an endpoint keeps it.
type Installed struct {
	Dir      string   `json:"dir"` // of this version, absolute; nothing writes to it
	Manifest Manifest `json:"manifest"`
	Users    []string `json:"users,omitempty"` // who may use it, beside the endpoint's own user; sorted

	Disabled bool `json:"disabled,omitempty"` // is not started, for anybody

	// Unconfined is the owner's word that it may run where nothing can hold it.
	Unconfined bool `json:"unconfined,omitempty"`
}

// ErrInvalid is matched by what Check returns.
var ErrInvalid = errors.New("manifest: not valid")

// failf returns an error that matches ErrInvalid.
func failf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// ID returns "PROVIDER/NAME", by which an app is known: names alone are not unique.
func (m *Manifest) ID() string { return m.Provider + "/" + m.Name }

// Check says what is wrong with a manifest, if anything is. Errors match [ErrInvalid].
func (m *Manifest) Check() error {
	if err := identity.CheckName(m.Provider); err != nil {
		return failf("provider: %v", err)
	}
	if err := identity.CheckName(m.Name); err != nil {
		return failf("app: %v", err)
	}
	if err := checkText("version", m.Version, maxVersion); err != nil {
		return err
	}
	if m.Version == "" || m.Sequence == 0 {
		return failf("version and sequence are needed")
	}
	if len(m.Exec) == 0 || len(m.Exec) > maxTargets {
		return failf("exec names %d systems, not 1 to %d", len(m.Exec), maxTargets)
	}
	if err := m.checkShown(); err != nil {
		return err
	}
	for system, words := range m.Exec {
		if err := checkProgram(system, words); err != nil {
			return err
		}
	}
	return m.Rights.check()
}

// checkShown checks what people are shown first.
func (m *Manifest) checkShown() error {
	if err := checkText("command", m.Command, maxLine); err != nil {
		return err
	}
	if err := checkText("page", m.Page, maxLine); err != nil {
		return err
	}
	// A browser takes "//host" and "/\host" for another server.
	if m.Page != "" && (m.Page[0] != '/' || strings.HasPrefix(m.Page, "//") || strings.Contains(m.Page, `\`)) {
		return failf("page %q is no path that begins with one slash", m.Page)
	}
	return nil
}

// checkProgram checks what is run on a system.
func checkProgram(system string, words []string) error {
	if err := checkText("system", system, maxVersion); err != nil {
		return err
	}
	if len(words) == 0 || len(words) > maxWords {
		return failf("exec of %s has %d words, not 1 to %d", system, len(words), maxWords)
	}
	for _, w := range words {
		if err := checkText("argument", w, maxWord); err != nil {
			return err
		}
	}
	p := words[0]
	if p == "." || p == ".." || path.Clean(p) != p || path.IsAbs(p) || strings.HasPrefix(p, "../") || strings.ContainsAny(p, `\:`) {
		return failf("program %q is no path below the directory of the app", p)
	}
	return nil
}

// checkText checks that s is short and holds nothing that a terminal or a C string would take for
// something else.
func checkText(what, s string, max int) error {
	if len(s) > max {
		return failf("%s is longer than %d bytes", what, max)
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\ufffd' }) {
		return failf("%s %q holds control characters", what, s)
	}
	return nil
}

// check says what is wrong with the rights, if anything is.
func (r *Rights) check() error {
	if r.Net != "" && r.Net != AnyNet {
		return failf("net is %.40q, not %q or nothing", r.Net, AnyNet)
	}
	if len(r.Apps) > maxApps {
		return failf("more than %d apps to reach", maxApps)
	}
	for _, id := range r.Apps {
		if err := CheckID(id); err != nil {
			return failf("%v", err)
		}
	}
	if r.Memory != 0 && (r.Memory < minMemory || r.Memory > maxMemory) {
		return failf("memory is %d bytes, not %d to %d", r.Memory, minMemory, int64(maxMemory))
	}
	if r.Disk < 0 || r.Disk > maxDisk || r.DiskFiles < 0 || r.DiskFiles > maxDiskFiles {
		return failf("disk is %d bytes in %d files, not at most %d in %d", r.Disk, r.DiskFiles, int64(maxDisk), maxDiskFiles)
	}
	if r.Processes < 0 || r.Processes > maxProcesses {
		return failf("processes are %d, not at most %d", r.Processes, maxProcesses)
	}
	return nil
}

// CheckID checks "PROVIDER/NAME".
func CheckID(id string) error {
	provider, name, ok := strings.Cut(id, "/")
	if !ok {
		return fmt.Errorf("%.130q is not PROVIDER/NAME", id)
	}
	for _, s := range []string{provider, name} {
		if err := identity.CheckName(s); err != nil {
			return fmt.Errorf("the app %.130q: %w", id, err)
		}
	}
	return nil
}

// Program returns what to run on a system, as Go names it, and false where the app has nothing for
// it.
func (m *Manifest) Program(goos, goarch string) ([]string, bool) {
	for _, system := range []string{goos + "/" + goarch, goos, anySystem} {
		if words, ok := m.Exec[system]; ok {
			return words, true
		}
	}
	return nil, false
}

// MemoryLimit returns how much data each process of the app may have, in bytes.
func (r Rights) MemoryLimit() int64 {
	if r.Memory > 0 {
		return r.Memory
	}
	return defaultLimit
}

// ProcessLimit returns how many processes and threads the app may have.
func (r Rights) ProcessLimit() int {
	if r.Processes > 0 {
		return r.Processes
	}
	return defaultCount
}

// DiskLimit returns how much the app may keep in its directory, in bytes.
func (r Rights) DiskLimit() int64 { return cmp.Or(r.Disk, defaultDisk) }

// FileLimit returns how many files and directories the app may keep there.
func (r Rights) FileLimit() int { return cmp.Or(r.DiskFiles, defaultFiles) }

// Beyond lists, for people, what these rights allow and the old ones did not. It is empty where an
// upgrade needs no new consent.
func (r Rights) Beyond(old Rights) []string {
	var more []string
	add := func(grew bool, text string) {
		if grew {
			more = append(more, text)
		}
	}
	add(r.Net != "" && old.Net == "", "use the network of this device")
	add(r.Exec && !old.Exec, "run the programs of this device")
	for _, id := range r.Apps {
		add(!slices.Contains(old.Apps, id), "reach the app "+id+" at other endpoints")
	}
	add(r.Files && !old.Files, "publish files of its own in the cloud, and read those of others who use it")
	add(r.Autostart && !old.Autostart, "run whenever the agent does")
	add(r.MemoryLimit() > old.MemoryLimit(), fmt.Sprintf("hold %d MB of memory in each process", r.MemoryLimit()/1e6))
	add(r.ProcessLimit() > old.ProcessLimit(), fmt.Sprintf("run %d processes", r.ProcessLimit()))
	add(r.DiskLimit() > old.DiskLimit(), fmt.Sprintf("keep %d MB in its directory", r.DiskLimit()/1e6))
	add(r.FileLimit() > old.FileLimit(), fmt.Sprintf("keep %d files in its directory", r.FileLimit()))
	return more
}
