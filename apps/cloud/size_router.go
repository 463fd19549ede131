//go:build ztm_router

package cloud

const (
	filesAtATime  = 8  // that are fetched
	filesWaiting  = 32 // for the disk, beside those: each has two open files
	blocksAtATime = 2  // in flight, over all files
)
