//go:build ztm_xterm

package web

import (
	"embed"
	"io/fs"
)

// The terminal of others, which `go run ./scripts/web` fetches.
//
//go:embed fetched/*.gz
var fetchedFiles embed.FS

func fetched() fs.FS {
	sub, err := fs.Sub(fetchedFiles, "fetched")
	if err != nil {
		return embed.FS{}
	}
	return sub
}
