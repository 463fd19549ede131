package confine

import (
	"encoding/binary"
	"maps"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// decide runs a filter as the kernel does for a call (seccomp(2)), and returns what it ends with.
func decide(t *testing.T, p program, architecture, number uint32, args ...uint64) uint32 {
	t.Helper()
	sees := make([]byte, 64) // struct seccomp_data
	binary.NativeEndian.PutUint32(sees[atNumber:], number)
	binary.NativeEndian.PutUint32(sees[atArchitecture:], architecture)
	for i, a := range args {
		binary.NativeEndian.PutUint64(sees[atArguments+8*i:], a)
	}
	var has uint32
	for at := 0; at < len(p); at++ {
		f, holds := p[at], false
		switch f.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			has = binary.NativeEndian.Uint32(sees[f.K:])
			continue
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			has &= f.K
			continue
		case unix.BPF_RET | unix.BPF_K:
			return f.K
		case unix.BPF_JMP | unix.BPF_JA:
			at += int(f.K)
			continue
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = has == f.K
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			holds = has > f.K
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = has >= f.K
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			holds = has&f.K != 0
		default:
			t.Fatalf("instruction %d has the code %#x", at, f.Code)
		}
		if holds {
			at += int(f.Jt)
		} else {
			at += int(f.Jf)
		}
	}
	t.Fatal("the filter has no end")
	return 0
}

// TestTheFilterItselfRefuses looks at the filter without the rest: a call that something else refuses as well, such as a
// raw socket without capabilities, or that this kernel does not have, is refused all the same.
func TestTheFilterItselfRefuses(t *testing.T) {
	own := architectures[runtime.GOARCH]
	if own == 0 {
		t.Skip("apps are not confined on " + runtime.GOARCH)
	}
	type call struct {
		number uint32
		args   [3]uint64
	}
	socket := func(family, kind, protocol uint64) call {
		return call{unix.SYS_SOCKET, [3]uint64{family, kind, protocol}}
	}
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	always := map[call]uint32{
		{number: unix.SYS_READ}:                                                allowed,
		{number: unix.SYS_CLONE3}:                                              unknown,
		{number: newest + 1}:                                                   unknown,
		{number: unix.SYS_PTRACE}:                                              refused,
		{number: unix.SYS_IO_URING_SETUP}:                                      refused,
		{number: unix.SYS_SETSID}:                                              refused,
		{unix.SYS_CLONE, [3]uint64{uint64(unix.SIGCHLD)}}:                      allowed,
		{unix.SYS_CLONE, [3]uint64{unix.CLONE_NEWUSER}}:                        refused,
		{unix.SYS_CLONE, [3]uint64{unix.CLONE_NEWNET | uint64(unix.CLONE_VM)}}: refused,
		{unix.SYS_PRCTL, [3]uint64{unix.PR_SET_DUMPABLE}}:                      refused,
		{unix.SYS_PRCTL, [3]uint64{unix.PR_SET_NAME}}:                          allowed,
		socket(unix.AF_UNIX, unix.SOCK_STREAM|flags, 0):                        allowed,
		socket(unix.AF_PACKET, unix.SOCK_RAW, 0):                               refused,
		socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0):                             refused,
		socket(unix.AF_ALG, unix.SOCK_SEQPACKET, 0):                            refused,
		socket(unix.AF_INET, unix.SOCK_RAW|flags, unix.IPPROTO_ICMP):           refused,
		socket(unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_RAW):                 refused,
		socket(unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_NETFILTER):         refused,
	}
	if runtime.GOARCH == "amd64" {
		always[call{number: x32 | unix.SYS_SOCKET}] = refused
		always[call{number: x32 | unix.SYS_READ}] = refused
	}
	if socketcall, has := map[string]uint32{"386": 102, "mips": 4102, "mipsle": 4102}[runtime.GOARCH]; has {
		always[call{number: socketcall}] = refused
	}
	for _, net := range []bool{false, true} {
		want := maps.Clone(always)
		verdict := map[bool]uint32{false: refused, true: allowed}[net]
		want[socket(unix.AF_INET, unix.SOCK_STREAM|flags, 0)] = verdict
		want[socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)] = verdict
		want[socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)] = verdict
		filter := (&Order{Net: net}).newFilter()
		for c, verdict := range want {
			if got := decide(t, filter, own, c.number, c.args[:]...); got != verdict {
				t.Errorf("with the network %v, call %d%v: %#x, want %#x", net, c.number, c.args, got, verdict)
			}
		}
		for name, other := range architectures {
			if other == own {
				continue
			}
			if got := decide(t, filter, other, unix.SYS_READ); got != refused {
				t.Errorf("a call of %s: %#x", name, got)
			}
		}
	}
	for root, verdict := range map[string]uint32{"": refused, "user": allowed} {
		if got := decide(t, (&Order{Means: Means{Root: root}}).newFilter(), own, unix.SYS_FCHMOD); got != verdict {
			t.Errorf("a change of modes with the root %q: %#x, want %#x", root, got, verdict)
		}
	}
}
