//go:build ztm_router

package cloud

import (
	"ztm/apps/cloud/fetch"
	"ztm/apps/cloud/tree"
)

const (
	filesAtATime  = 8  // that are fetched
	filesWaiting  = 32 // for the disk, beside those: each has two open files
	blocksAtATime = 2  // in flight, over all files
)

// target is where the content of a file that has no name yet is written. As the type that it is, each
// of its methods would be in the program once more.
func target(p *tree.Pending) fetch.File { return p.Pending.File }
