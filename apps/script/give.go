package script

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"ztm/apps/process"
)

// selves is how scripts ask for their own name, in the languages of most of them.
var selves = []string{"$0", "${0", "BASH_SOURCE", "argv[0]", "argv[1]", "__file__", "__FILE__", "__filename", "PROGRAM_NAME"}

// namesItself reports whether a script may pass on its own name. Another program cannot open it
// through the name of a descriptor: sudo, for example, closes descriptors.
func namesItself(source []byte) bool {
	return slices.ContainsFunc(selves, func(s string) bool { return bytes.Contains(source, []byte(s)) })
}

// shells are the interpreters that take the CR of a Windows line end for a part of the last word.
var shells = []string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh", "busybox"}

// readable returns a script as its interpreter can read it. It removes a byte-order mark, which
// PowerShell alone expects. For a shell it converts the line ends of Windows, if all line ends are
// of that kind.
func readable(source []byte, with interpreter) []byte {
	if with.ending != ".ps1" {
		source = bytes.TrimPrefix(source, []byte("\ufeff"))
	}
	lines, windows := bytes.Count(source, []byte("\n")), bytes.Count(source, []byte("\r\n"))
	if slices.Contains(shells, with.name) && windows > 0 && windows == lines {
		source = bytes.TrimSuffix(bytes.ReplaceAll(source, []byte("\r\n"), []byte("\n")), []byte("\r"))
	}
	return source
}

// given is a script in the form that its interpreter reads.
type given struct {
	path   string     // to read it from
	files  []*os.File // to inherit
	remove func()     // removes it
}

// private is the beginning of the names of our directories; the number of this process and a random
// one follow.
const private = "ztm-script-"

// giveFile writes the script to a file that only its account may read.
func giveFile(source []byte, ending string, a *process.Account) (given, error) {
	dir, err := os.MkdirTemp("", private+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return given{}, err
	}
	g := given{path: filepath.Join(dir, "script"+ending), remove: func() { os.RemoveAll(dir) }}
	mode := os.FileMode(0o700) // a script may run itself again by its name
	if ending != "" {
		mode = 0o600
	}
	if err = os.WriteFile(g.path, source, mode); err == nil {
		if err = a.Own(g.path); err == nil {
			err = a.Own(dir)
		}
	}
	if err != nil {
		g.remove()
		return given{}, err
	}
	return g, nil
}

// sweep removes the directories of agents that no longer run.
func sweep() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), private+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), private), "-")
		if pid, err := strconv.Atoi(number); err == nil && !process.Runs(pid) {
			os.RemoveAll(dir) // it fails for the directory of another account
		}
	}
}
