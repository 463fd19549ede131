//go:build unix

package private

import (
	"io/fs"
	"os"
	"syscall"
)

func checkOwner(info fs.FileInfo) error {
	s, ok := info.Sys().(*syscall.Stat_t)
	if ok && int(s.Uid) != os.Geteuid() && s.Uid != 0 {
		return ErrOwner
	}
	return nil
}

// keepsOwners makes a file and looks whose it is.
func keepsOwners(dir string) bool {
	f, err := os.CreateTemp(dir, ".ztm-")
	if err != nil {
		return true
	}
	defer os.Remove(f.Name())
	defer f.Close()
	info, err := f.Stat()
	return err != nil || checkOwner(info) == nil
}

// restrict takes the rights of everybody but the owner.
func restrict(path string, info fs.FileInfo) error {
	mode := info.Mode().Perm()
	if mode&0o077 == 0 {
		return nil
	}
	return os.Chmod(path, mode&0o700)
}
