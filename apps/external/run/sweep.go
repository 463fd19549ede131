package run

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// socketsPrefix is the beginning of the names of directories of sockets; a random one follows.
const socketsPrefix = "ztm-app-"

// settled is how old a directory is in which sockets that are to be there are there.
const settled = time.Minute

// apiSocket is where a program asks the agent, in a directory of sockets.
func apiSocket(dir string) string { return filepath.Join(dir, "api", "ztm") }

// Sweep removes the directories of sockets of agents that were killed. That of an agent that lives,
// be it another one, has a socket that takes connections.
func Sweep() {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), socketsPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || time.Since(info.ModTime()) < settled {
			continue
		}
		c, err := net.Dial("unix", apiSocket(dir))
		if err == nil {
			c.Close()
		} else if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
			os.RemoveAll(dir) // it fails for the directory of another account
		}
	}
}
