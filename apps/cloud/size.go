//go:build !ztm_router

package cloud

import (
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/tree"
)

const (
	filesAtATime  = 32  // that are fetched
	filesWaiting  = 256 // for the disk, beside those: each has two open files
	blocksAtATime = 8   // in flight, over all files
)

// target is where the content of a file that has no name yet is written.
func target(p *tree.Pending) fetch.File { return p }
