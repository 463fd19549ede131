//go:build ztm_router

package cloud

const (
	filesAtATime  = 8 // that are fetched
	blocksAtATime = 2 // in flight, over all files
)
