// Package session finds the processes of a session (setsid), which is all that a program has started
// and that has not left by itself.
package session

import (
	"bytes"
	"os"
	"strconv"
)

// Members returns the processes of a session that are no zombies, from /proc.
func Members(sid int) ([]int, error) {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(0)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err == nil && memberOf(stat, sid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// memberOf reports whether /proc/PID/stat is of a running process of the session. Its fields are
// PID (COMM) STATE PPID PGRP SESSION ...; the process chooses COMM, for example ") Z 1 1 1".
func memberOf(stat []byte, sid int) bool {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return false
	}
	f := bytes.Fields(stat[i+1:])
	if len(f) < 4 || f[0][0] == 'Z' || f[0][0] == 'X' {
		return false
	}
	n, err := strconv.Atoi(string(f[3]))
	return err == nil && n == sid
}
