package script

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ztm/apps/process"
)

// given is a script as its interpreter gets it.
type given struct {
	path   string     // to read it from
	files  []*os.File // to inherit
	remove func()     // what is left of it
}

// private is the beginning of the names of our directories; the number of this process and a random one follow.
const private = "ztm-script-"

// giveFile writes the script to a file that its account alone may read.
func giveFile(source []byte, ending string, a *process.Account) (given, error) {
	dir, err := os.MkdirTemp("", private+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		return given{}, err
	}
	g := given{path: filepath.Join(dir, "script"+ending), remove: func() { os.RemoveAll(dir) }}
	if err = os.WriteFile(g.path, source, 0o600); err == nil {
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

// sweep removes what agents left that died.
func sweep() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), private+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), private), "-")
		if pid, err := strconv.Atoi(number); err == nil && !process.Runs(pid) {
			os.RemoveAll(dir) // it may be another user's, who will do it
		}
	}
}
