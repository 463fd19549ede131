//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"ztm/scripts/process"
)

// What follows does not stop a process: it goes on with something that has run out, or that is wrong.

// filling leaves no room on the disk of a node. One that ends of it starts again once there is room.
func (r *rig) filling(n *node) (string, []string, func() error) {
	if n == nil {
		return "", nil, nil
	}
	ballast := filepath.Join(r.data(n.name), "ballast")
	if _, err := os.Stat(ballast); err == nil { // by the other accident of the two
		return "", nil, nil
	}
	if err := sh("sh", "-c", "dd if=/dev/zero of="+ballast+" bs=64k 2>/dev/null; test -s "+ballast); err != nil {
		return "", nil, nil
	}
	return "fill the disk of " + n.name, nil, func() error {
		err := os.Remove(ballast)
		if err == nil && r.isEtcd(n) && !n.proc.Running() {
			err = r.start(n)
		}
		return err
	}
}

// starving lets a process open no file and no socket more than it has.
func (r *rig) starving(n *node) (string, []string, func() error) {
	if n == nil || !n.proc.Running() {
		return "", nil, nil
	}
	p, old, few := n.proc, unix.Rlimit{}, uint64(descriptors(n))
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return "", nil, nil
	}
	if err := unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: old.Max}, nil); err != nil {
		return "", nil, nil
	}
	return fmt.Sprintf("leave %s its %d descriptors", n.name, few), []string{n.name}, func() error {
		if !p.Running() {
			return nil // another accident has ended it
		}
		return unix.Prlimit(p.Pid(), unix.RLIMIT_NOFILE, &old, nil)
	}
}

// shifting sets the clock of a process.
func (r *rig) shifting(n *node, rnd *rand.Rand, aheads ...time.Duration) (string, []string, func() error) {
	if n == nil || !process.CanSetClocks() || !n.proc.Running() {
		return "", nil, nil
	}
	p, ahead := n.proc, aheads[rnd.IntN(len(aheads))]
	if err := process.SetClock(p, ahead); err != nil {
		fmt.Printf("chaos: the clock of %s: %v\n", n.name, err)
		return "", nil, nil
	}
	return fmt.Sprintf("set the clock of %s by %v", n.name, ahead), []string{n.name}, func() error {
		if !p.Running() {
			return nil
		}
		return process.SetClock(p, 0)
	}
}

// compacting cuts a hub off from etcd, which has forgotten what happened meanwhile when the hub is back.
func (r *rig) compacting(h *node) (string, []string, func() error) {
	what, touched, mend := r.parting(h, names(r.etcds))
	if mend == nil {
		return "", nil, nil
	}
	return what + " and compact", touched, func() error {
		start, o := time.Now(), ok
		err := r.compact()
		if err != nil {
			o = unknown // another accident may be in the way
		}
		r.log.add("compact", h.name, start, o, text(err))
		return mend()
	}
}
