//go:build unix

package process

import (
	"bufio"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"ztm/tunnel/answer"
)

// Lookup finds an account by name; "" is the agent's own. An unknown account, and one that this
// agent may not become, give an *[answer.Error].
func Lookup(name string) (*Account, error) {
	own := current()
	if name == "" || name == own.Name {
		return own, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return nil, answer.Errorf(answer.NotFound, "this endpoint has no account %q", name)
	}
	a, err := account(u)
	if err != nil {
		return nil, answer.Errorf(answer.Internal, "account %q: %v", name, err)
	}
	if os.Geteuid() != 0 {
		return nil, answer.Errorf(answer.Denied, "the agent runs as %s and may not run programs as %s", own.Name, name)
	}
	a.other = true
	return a, nil
}

func account(u *user.User) (*Account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, err
	}
	a := &Account{Name: u.Username, Home: u.HomeDir, uid: uint32(uid), gid: uint32(gid)}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, err
		}
		a.groups = append(a.groups, uint32(n))
	}
	a.Shell = a.loginShell()
	return a, nil
}

// current returns the agent's own account. A device without user database has one as well.
func current() *Account {
	a := &Account{Name: os.Getenv("USER"), Home: os.Getenv("HOME"), uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	if u, err := user.LookupId(strconv.Itoa(os.Geteuid())); err == nil {
		a.Name, a.Home = u.Username, u.HomeDir
	}
	if a.Name == "" {
		a.Name = strconv.Itoa(os.Geteuid())
	}
	if !filepath.IsAbs(a.Home) {
		a.Home = "/"
	}
	a.Shell = a.loginShell()
	return a
}

// loginShell returns the account's shell from the password database; where that has none, the
// agent's own SHELL if the account is the same, and else the first shell there is.
func (a *Account) loginShell() string {
	if s := shellOf(a.Name); s != "" {
		return s
	}
	candidates := []string{"/bin/sh", filepath.Join(os.Getenv("PREFIX"), "bin/sh"), "/system/bin/sh"}
	if int(a.uid) == os.Geteuid() {
		candidates = append([]string{os.Getenv("SHELL"), filepath.Join(os.Getenv("PREFIX"), "bin/bash")}, candidates...)
	}
	for _, s := range candidates {
		if _, err := executable(s); err == nil && filepath.IsAbs(s) {
			return s
		}
	}
	return "/bin/sh"
}

// shellIn returns the last field of the account's line in a passwd(5) file:
// NAME:PASSWORD:UID:GID:GECOS:HOME:SHELL.
func shellIn(passwd io.Reader, name string) string {
	lines := bufio.NewScanner(passwd)
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) == 7 && f[0] == name && filepath.IsAbs(f[6]) {
			return f[6]
		}
	}
	return ""
}

func shellOf(name string) string {
	f, err := os.Open("/etc/passwd")
	if err != nil {
		return ""
	}
	defer f.Close()
	return shellIn(f, name)
}

// credential returns what the child becomes; nil leaves it what the agent is.
func (a *Account) credential() *syscall.Credential {
	if !a.other {
		return nil
	}
	return &syscall.Credential{Uid: a.uid, Gid: a.gid, Groups: a.groups}
}

// kept are the agent's own variables that its account's programs get: where things are, never what
// they are for.
var kept = []string{"TZ", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH", "LD_PRELOAD", "PREFIX", "ANDROID_ROOT",
	"ANDROID_DATA", "ANDROID_ART_ROOT", "ANDROID_I18N_ROOT", "ANDROID_TZDATA_ROOT", "BOOTCLASSPATH",
	"TERMUX_VERSION", "TERMUX_APP__PACKAGE_NAME"}

func (a *Account) inherited() []string {
	path := userPath
	if a.uid == 0 {
		path = rootPath
	}
	if a.other {
		env := []string{"PATH=" + path}
		if tz, ok := os.LookupEnv("TZ"); ok {
			env = append(env, "TZ="+tz)
		}
		return env
	}
	if own := os.Getenv("PATH"); own != "" {
		path = own
	}
	env := []string{"PATH=" + path}
	for _, name := range kept {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// executable checks that path is a file that somebody may execute.
func executable(path string) (string, error) {
	st, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if st.IsDir() || st.Mode()&0o111 == 0 {
		return "", &os.PathError{Op: "find", Path: path, Err: os.ErrPermission}
	}
	return path, nil
}

func sameName(a, b string) bool { return a == b }

// Own gives a file or directory of the agent to the account.
func (a *Account) Own(path string) error {
	if !a.other {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// Runs reports whether there is a process with that number.
func Runs(pid int) bool { return syscall.Kill(pid, 0) != syscall.ESRCH }
