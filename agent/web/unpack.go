//go:build !ztm_router

package web

import (
	"bytes"
	"compress/gzip"
	"io"
)

// unpacked is what a file says, compressed or not.
func unpacked(b []byte) ([]byte, error) {
	if !packed(b) {
		return b, nil
	}
	var z gzip.Reader
	if err := z.Reset(bytes.NewReader(b)); err != nil {
		return nil, err
	}
	return io.ReadAll(&z)
}
