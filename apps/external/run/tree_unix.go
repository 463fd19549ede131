//go:build unix

package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"ztm/apps/process/session"
)

// terminate asks all processes of a session to end.
func terminate(sid int) {
	for _, pid := range members(sid) {
		unix.Kill(pid, unix.SIGTERM)
		unix.Kill(pid, unix.SIGCONT)
	}
}

// killAll ends all processes of a session. One that is being forked is found in the next round: its
// parent has died, so each round finds fewer.
func killAll(sid int) {
	for range 100 {
		pids := members(sid)
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func count(sid int) int { return len(members(sid)) }

// members returns the processes of a session, or its first group if they cannot be listed.
func members(sid int) []int {
	pids, err := session.Members(sid)
	if err != nil && unix.Kill(-sid, 0) == nil {
		return []int{-sid}
	}
	return pids
}

// block is the unit of the count of blocks, in bytes, whatever the file system's own is.
const block = 512

// held is how much of the disk a file takes, in bytes.
func held(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * block
	}
	return info.Size()
}

// gone reports whether an error says that a file is not there any longer.
func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// own gives a directory and all that is in it to an account, if it is not that of the account yet.
func own(dir string, id int) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == id {
		return nil
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		return os.Lchown(path, id, id)
	})
	return errors.Join(err, os.Lchown(dir, id, id)) // last: it says that the rest is done
}
