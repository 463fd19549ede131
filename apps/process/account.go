package process

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Account is a user of the operating system that programs run as.
type Account struct {
	Name  string
	Home  string
	Shell string // the login shell; absolute

	uid, gid uint32
	groups   []uint32
	other    bool // is not the agent's own
}

const (
	rootPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	userPath = "/usr/local/bin:/usr/bin:/bin"
)

// Env returns the environment that a login gives to an account. Of the agent's own variables it has
// those that programs cannot do without. extra ("NAME=value") is added; later entries win.
func (a *Account) Env(extra ...string) []string {
	env := append(a.inherited(), "HOME="+a.Home, "USER="+a.Name, "LOGNAME="+a.Name, "SHELL="+a.Shell)
	seen := make(map[string]bool)
	var out []string
	for _, kv := range slices.Backward(append(env, extra...)) {
		name, _, _ := strings.Cut(kv, "=")
		if !seen[name] {
			seen[name] = true
			out = append(out, kv)
		}
	}
	slices.Reverse(out)
	return out
}

// Find returns the absolute path of a program, as it is found through PATH in env. It asks the file
// system by stat(2) alone: exec.LookPath kills the process on some Androids.
func (a *Account) Find(name string, env []string) (string, error) {
	if name == "" {
		return "", &os.PathError{Op: "find", Path: name, Err: os.ErrNotExist}
	}
	if filepath.IsAbs(name) {
		return executable(name)
	}
	if strings.ContainsRune(filepath.ToSlash(name), '/') {
		return executable(filepath.Join(a.Home, name))
	}
	err := error(&os.PathError{Op: "find", Path: name, Err: os.ErrNotExist})
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue // "." in PATH is the directory in which the agent was started
		}
		path, e := executable(filepath.Join(dir, name))
		if e == nil {
			return path, nil
		}
		if os.IsPermission(e) {
			err = e
		}
	}
	return "", err
}

// lookup returns a variable of an environment, "" if it is not there.
func lookup(env []string, name string) string {
	for _, kv := range env {
		if n, v, ok := strings.Cut(kv, "="); ok && sameName(n, name) {
			return v
		}
	}
	return ""
}

// Cause returns an error without the operation and the path, which the caller states itself.
func Cause(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
