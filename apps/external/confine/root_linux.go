package confine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// machine are the places of the machine that a program needs to run: it may read them. The private
// keys beside the certificates are not among them: without namespaces it may have the account of root.
var machine = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/ld-musl-x86_64.path", "/etc/alternatives", "/etc/localtime", "/etc/timezone",
	"/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/ssl/ca-bundle.pem", "/etc/ssl/openssl.cnf", "/etc/ca-certificates",
	"/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/pki/tls/cert.pem", "/etc/pki/tls/openssl.cnf", "/etc/nsswitch.conf", "/etc/mime.types", "/etc/protocols", "/etc/services",
	"/nix/store", "/gnu/store",
	"/proc/cpuinfo", "/proc/loadavg", "/proc/meminfo", "/proc/stat", "/proc/uptime", "/proc/version"}

// network are the places that a program needs where it may use the network.
var network = []string{"/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/gai.conf"}

// devices are those that anybody may read and write.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// readable lists what the program may read beside its own directories.
func (o *Order) readable() []string {
	if o.Net {
		return append(append([]string{}, machine...), network...)
	}
	return machine
}

// ownRoot puts a file system into the place of the machine's, in which there is what the program may
// use and nothing else: neither the agent's files nor a socket of anybody. Names stay what they are.
func (o *Order) ownRoot() error {
	if o.Means.Root == "" {
		return unix.Chdir(o.Dir)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	root := o.Scratch
	if err := unix.Mount("tmpfs", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=64k,mode=755"); err != nil {
		return err
	}
	if err := o.fill(root); err != nil {
		return err
	}
	if err := unix.Mount("", root, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, "size=64k,mode=755"); err != nil {
		return err
	}
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil { // pivot_root(2): the old one is stacked on the new one
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir(o.Dir)
}

// fill binds into the new root what the program may use.
func (o *Order) fill(root string) error {
	for _, path := range append(o.readable(), devices...) {
		if err := bind(root, path, !strings.HasPrefix(path, "/dev/")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return errors.Join(bind(root, o.Dir, true), bind(root, o.Data, false), bind(root, o.Sockets, true))
}

// bind makes what is at a path appear at the same path of the new root.
func bind(root, from string, readOnly bool) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	to := filepath.Join(root, from)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		return copyLink(from, to)
	case info.IsDir():
		err = os.MkdirAll(to, 0o755)
	default:
		err = os.WriteFile(to, nil, 0o644)
	}
	if err != nil {
		return err
	}
	return mountOver(from, to, readOnly)
}

// copyLink makes the same link. What it leads to below /usr is there; a link that leads elsewhere,
// of /etc/resolv.conf for example, is replaced by what it leads to.
func copyLink(from, to string) error {
	target, err := filepath.EvalSymlinks(from)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(target, "/usr/") && !strings.HasPrefix(from, "/etc/") {
		return nil
	}
	link, err := os.Readlink(from)
	if err != nil || strings.HasPrefix(target, "/usr/") {
		return errors.Join(err, os.Symlink(link, to))
	}
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.Mkdir(to, 0o755)
	} else {
		err = os.WriteFile(to, nil, 0o644)
	}
	if err != nil {
		return err
	}
	return mountOver(target, to, true)
}

// mountOver binds from over to. A namespace of users may not take away the flags that the mount has.
func mountOver(from, to string, readOnly bool) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return &os.PathError{Op: "bind", Path: from, Err: err}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(to, &st); err != nil {
		return err
	}
	flags := uintptr(st.Flags)&(unix.ST_NOSUID|unix.ST_NODEV|unix.ST_NOEXEC|unix.ST_RDONLY|unix.ST_NOATIME|unix.ST_NODIRATIME) | unix.MS_NOSUID
	if st.Flags&unix.ST_RELATIME != 0 {
		flags |= unix.MS_RELATIME
	}
	if !strings.HasPrefix(from, "/dev/") {
		flags |= unix.MS_NODEV
	}
	if readOnly {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount("", to, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
		return &os.PathError{Op: "remount", Path: from, Err: err}
	}
	return nil
}
