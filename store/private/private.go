// Package private makes files and directories private to their owner, and refuses those of other
// users.
//
// Hubs and agents trust what lies in their files: keys, lists, the socket of the local API. The
// owner of such a file or of its directory can replace it, in spite of its mode. On unix the owner
// must be the user of the process, or root. Windows has access lists instead: they are set to the
// user of the process, the system and the administrators.
package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrOwner is returned for a file or directory of another user.
var ErrOwner = errors.New("belongs to another user of this machine")

// Dir makes a directory, and those above it, or makes one that is there private. One of another
// user is refused with [ErrOwner]. On a file system that is read-only it fails with syscall.EROFS,
// unless the directory is private already.
func Dir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := CheckOwner(info); err != nil && keepsOwners(path) {
		return fmt.Errorf("%s %w: run as that user, or give it to the one who runs this", path, err)
	}
	return restrict(path, info)
}

// CheckOwner returns [ErrOwner] for a file that belongs neither to the user of this process nor to
// root.
func CheckOwner(info fs.FileInfo) error { return checkOwner(info) }

// KeepsOwners reports whether the file system of a directory says who owns a file. Some (9p, FUSE,
// NFS that squashes root) give all files to somebody else, and nothing can be told from that. Where
// the directory cannot be written it says true.
func KeepsOwners(dir string) bool { return keepsOwners(dir) }
