//go:build !ztm_router

package webhook

import (
	"bytes"
	"compress/gzip"
)

// pack returns a body as it is sent, and the name of that form.
func pack(body []byte) (packed []byte, encoding string) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(body)
	z.Close()
	return b.Bytes(), "gzip"
}
