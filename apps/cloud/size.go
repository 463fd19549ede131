//go:build !ztm_router

package cloud

const (
	filesAtATime  = 32  // that are fetched
	filesWaiting  = 256 // for the disk, beside those: each has two open files
	blocksAtATime = 8   // in flight, over all files
)
