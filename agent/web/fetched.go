//go:build ztm_xterm

package web

import (
	"bytes"
	"compress/gzip"
	"embed"
	"io"
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

// plain unpacks one for a browser that cannot.
func plain(packed []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
