//go:build !ztm_router

package cloud

const (
	filesAtATime  = 32 // that are fetched
	blocksAtATime = 8  // in flight, over all files
)
