package process

import (
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"ztm/tunnel/answer"
)

// Lookup finds an account by name; "" is the agent's own. It is the only one: on Windows a process
// becomes another account only with that account's password. Another name gives an *[answer.Error].
func Lookup(name string) (*Account, error) {
	a := &Account{Name: os.Getenv("USERNAME"), Home: os.Getenv("USERPROFILE")}
	if u, err := user.Current(); err == nil {
		a.Name, a.Home = u.Username, u.HomeDir
	}
	if name != "" && !strings.EqualFold(name, a.Name) {
		return nil, answer.Errorf(answer.Denied, "the agent runs as %s and may not run programs as %s", a.Name, name)
	}
	env := os.Environ()
	for _, shell := range []string{"pwsh", "powershell", "cmd"} {
		if path, err := a.Find(shell, env); err == nil {
			a.Shell = path
			break
		}
	}
	return a, nil
}

// inherited is all of the agent's environment: programs on Windows do not start without much of it.
func (a *Account) inherited() []string { return os.Environ() }

// executable finds a program by its path, with or without one of the endings in PATHEXT.
func executable(path string) (string, error) {
	endings := []string{""}
	if filepath.Ext(path) == "" {
		endings = filepath.SplitList(os.Getenv("PATHEXT"))
	}
	for _, e := range endings {
		if st, err := os.Stat(path + e); err == nil && !st.IsDir() {
			return path + e, nil
		}
	}
	return "", &os.PathError{Op: "find", Path: path, Err: os.ErrNotExist}
}

func sameName(a, b string) bool { return strings.EqualFold(a, b) }

// Own does nothing: there is no other account.
func (a *Account) Own(string) error { return nil }

// Runs reports whether there is a process with that number.
func Runs(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	p.Release()
	return true
}
