package confine

import (
	"encoding/binary"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The filter of system calls. It is a program for the kernel (seccomp, classic BPF) that sees the
// number of each call and its arguments, but nothing that a pointer leads to:
//
//	another architecture of the same machine           refused: its numbers mean something else
//	x32 numbers, socketcall                             refused
//	socket                                             by family; without the network that is AF_UNIX alone
//	clone                                              without new namespaces
//	prctl                                              but what hides a process: the agent counts what it has open
//	clone3, numbers that this list does not know yet   ENOSYS: programs fall back
//	what is in denied, and in changesMode              EPERM
//	all else                                           allowed

// denied are the calls that reach into the machine, other processes or parts of the kernel that no
// app needs. Leaving the session is among them: the session is how all of an app is found.
var denied = append([]uint32{
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_KCMP, unix.SYS_PIDFD_GETFD,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_KEYCTL, unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_SETSID, unix.SYS_PERSONALITY, unix.SYS_VHANGUP, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD,
	unix.SYS_KEXEC_LOAD, unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF,
	unix.SYS_ACCT, unix.SYS_SYSLOG, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME, unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_NFSSERVCTL,
}, deniedHere...)

// changesMode are the calls that say who may use a file. Landlock does not know them, so that without
// a file system of its own a program could open all files of its account to others.
var changesMode = append([]uint32{unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHMODAT2,
	unix.SYS_SETXATTR, unix.SYS_LSETXATTR, unix.SYS_FSETXATTR, unix.SYS_SETXATTRAT}, changesModeHere...)

// architectures are the words by which the kernel tells of what architecture a call is.
var architectures = map[string]uint32{
	"386": unix.AUDIT_ARCH_I386, "amd64": unix.AUDIT_ARCH_X86_64, "arm": unix.AUDIT_ARCH_ARM, "arm64": unix.AUDIT_ARCH_AARCH64,
	"loong64": unix.AUDIT_ARCH_LOONGARCH64, "mips": unix.AUDIT_ARCH_MIPS, "mipsle": unix.AUDIT_ARCH_MIPSEL, "mips64": unix.AUDIT_ARCH_MIPS64,
	"mips64le": unix.AUDIT_ARCH_MIPSEL64, "ppc64le": unix.AUDIT_ARCH_PPC64LE, "riscv64": unix.AUDIT_ARCH_RISCV64,
}

const (
	newest     = unix.SYS_LISTNS // the highest number that was looked at
	x32        = 0x40000000      // is in the numbers of x32 calls
	namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

	allowed = unix.SECCOMP_RET_ALLOW
	refused = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	unknown = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// Places in what the filter sees (struct seccomp_data).
const (
	atNumber       = 0
	atArchitecture = 4
	atArguments    = 16
)

// argument returns the place of the low word of an argument.
func argument(n uint32) uint32 {
	at := atArguments + 8*n
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // big-endian: the high word is first
		at += 4
	}
	return at
}

// program is a filter that is being written.
type program []unix.SockFilter

func (p *program) load(at uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at})
}

func (p *program) end(with uint32) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: with})
}

// unless appends a comparison. If it holds, what follows is run; if not, so many instructions are
// skipped.
func (p *program) unless(comparison uint16, with uint32, skip uint8) {
	*p = append(*p, unix.SockFilter{Code: unix.BPF_JMP | comparison | unix.BPF_K, K: with, Jf: skip})
}

// is runs then if what is loaded is a number.
func (p *program) is(number uint32, then program) {
	p.unless(unix.BPF_JEQ, number, uint8(len(then)))
	*p = append(*p, then...)
}

func ends(with uint32) (p program) { p.end(with); return p }

// newFilter writes the filter of this architecture.
func (o *Order) newFilter() (p program) {
	p.load(atArchitecture)
	p.unless(unix.BPF_JEQ, architectures[runtime.GOARCH], 1)
	p = append(p, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: 1})
	p.end(refused)
	p.load(atNumber)
	if runtime.GOARCH == "amd64" {
		p.unless(unix.BPF_JGE, x32, 1)
		p.end(refused)
	}
	p.unless(unix.BPF_JGT, newest, 1)
	p.end(unknown)
	p.is(unix.SYS_CLONE3, ends(unknown))
	p.is(unix.SYS_SOCKET, families(o.Net))
	var clone program
	clone.load(argument(0))
	clone.unless(unix.BPF_JSET, namespaces, 1)
	clone.end(refused)
	clone.end(allowed)
	p.is(unix.SYS_CLONE, clone)
	var prctl program
	prctl.load(argument(0))
	prctl.is(unix.PR_SET_DUMPABLE, ends(refused))
	prctl.end(allowed)
	p.is(unix.SYS_PRCTL, prctl)
	for _, number := range denied {
		p.is(number, ends(refused))
	}
	if o.Means.Root == "" {
		for _, number := range changesMode {
			p.is(number, ends(refused))
		}
	}
	p.end(allowed)
	return p
}

// families decides about socket(2): the family is its first argument, the kind is in the low bits
// of its second, the protocol is its third.
func families(net bool) (p program) {
	const kinds = 0xf
	p.load(argument(0))
	p.is(unix.AF_UNIX, ends(allowed))
	if net {
		var inet program // no raw sockets
		inet.load(argument(1))
		inet = append(inet, unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: kinds})
		inet.is(unix.SOCK_STREAM, ends(allowed))
		inet.is(unix.SOCK_DGRAM, ends(allowed))
		inet.end(refused)
		p.is(unix.AF_INET, inet)
		p.is(unix.AF_INET6, inet)
		var route program // the addresses of this machine
		route.load(argument(2))
		route.is(unix.NETLINK_ROUTE, ends(allowed))
		route.end(refused)
		p.is(unix.AF_NETLINK, route)
	}
	p.end(refused)
	return p
}

// filter filters the system calls of this thread, and of what it becomes.
func (o *Order) filter() error {
	if !o.Means.Filter {
		return nil
	}
	if architectures[runtime.GOARCH] == 0 {
		return unix.ENOTSUP
	}
	p := o.newFilter()
	prog := unix.SockFprog{Len: uint16(len(p)), Filter: &p[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}
