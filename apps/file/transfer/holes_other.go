//go:build !(linux || darwin || freebsd)

package transfer

import (
	"errors"
	"io/fs"
	"os"
)

// sparse reports that a file has no holes: nothing here asks for them.
func sparse(fs.FileInfo) bool { return false }

// dataAfter knows nothing.
func dataAfter(*os.File, int64) (int64, error) { return 0, errors.ErrUnsupported }
