package confine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The rights on files that each version of Landlock knows, by number of the version less one.
var landlockFiles = []uint64{
	unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR |
		unix.LANDLOCK_ACCESS_FS_REMOVE_DIR | unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_DIR |
		unix.LANDLOCK_ACCESS_FS_MAKE_REG | unix.LANDLOCK_ACCESS_FS_MAKE_SOCK | unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK |
		unix.LANDLOCK_ACCESS_FS_MAKE_SYM,
	unix.LANDLOCK_ACCESS_FS_REFER,
	unix.LANDLOCK_ACCESS_FS_TRUNCATE,
	0, // 4: TCP
	unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
	0, // 6: signals and abstract sockets
	0, // 7: what is written to the audit log
	0, // 8: all threads at once
	unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX,
}

// What a rule allows.
const (
	mayRead    = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	mayExecute = unix.LANDLOCK_ACCESS_FS_EXECUTE
	mayUse     = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE
	mayConnect = unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
	mayAll     = ^uint64(mayExecute | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | mayConnect)

	// ofFiles are the rights that a rule about a file can have.
	ofFiles = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE |
		unix.LANDLOCK_ACCESS_FS_IOCTL_DEV | unix.LANDLOCK_ACCESS_FS_RESOLVE_UNIX
)

// landlockVersion returns which version of Landlock the kernel has; 0 is none.
func landlockVersion() int {
	if os.Getenv("ANDROID_ROOT") != "" {
		return 0
	}
	v, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return 0
	}
	return int(v)
}

// ruleset is a set of rules that is being made.
type ruleset struct {
	fd    int
	files uint64 // the rights that it is about
}

// landlock keeps this thread, and what it becomes, from all files but those of the order.
func (o *Order) landlock() error {
	if o.Means.Landlock == 0 {
		return nil
	}
	r, err := newRuleset(o)
	if err != nil {
		return err
	}
	defer unix.Close(r.fd)
	if err := r.allow(o); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(r.fd), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func newRuleset(o *Order) (*ruleset, error) {
	attr := unix.LandlockRulesetAttr{}
	for _, rights := range landlockFiles[:min(o.Means.Landlock, len(landlockFiles))] {
		attr.Handled_access_fs |= rights
	}
	size := unsafe.Sizeof(attr.Handled_access_fs)
	if o.Means.Landlock >= 4 {
		size += unsafe.Sizeof(attr.Handled_access_net)
		if !o.Net {
			attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
		}
	}
	if o.Means.Landlock >= 6 {
		size += unsafe.Sizeof(attr.Scoped)
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return nil, errno
	}
	return &ruleset{fd: int(fd), files: attr.Handled_access_fs}, nil
}

// allow adds the rules of an order.
func (r *ruleset) allow(o *Order) error {
	var failed error
	add := func(path string, rights uint64) {
		if err := r.add(path, rights); err != nil && !errors.Is(err, fs.ErrNotExist) && failed == nil {
			failed = &os.PathError{Op: "rule", Path: path, Err: err}
		}
	}
	read := uint64(mayRead)
	if o.Exec {
		read |= mayExecute
	}
	for _, path := range o.readable() {
		add(path, read)
	}
	for _, path := range devices {
		add(path, mayUse)
	}
	for _, path := range o.interpreters() {
		add(path, mayRead|mayExecute)
	}
	add("/proc/self", mayRead)
	add(o.Dir, mayRead|mayExecute)
	add(o.Sockets, mayRead|mayConnect)
	data := mayAll
	if o.Exec {
		data |= mayExecute
	}
	add(o.Data, data)
	return failed
}

// add adds a rule about a path and all below it.
func (r *ruleset) add(path string, rights uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		rights &= ofFiles
	}
	rule := unix.LandlockPathBeneathAttr{Allowed_access: rights & r.files, Parent_fd: int32(fd)}
	if rule.Allowed_access == 0 {
		return nil
	}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(r.fd), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// interpreters lists what runs the program: the loaders of the machine, and what its first line
// names.
func (o *Order) interpreters() []string {
	var list []string
	for _, pattern := range []string{"/lib*/ld-*", "/lib/*/ld-*", "/usr/lib*/ld-*", "/usr/lib/*/ld-*", "/libexec/ld-*"} {
		found, _ := filepath.Glob(pattern) // the pattern is right
		list = append(list, found...)
	}
	return append(list, shebang(o.Path, o.Env)...)
}
