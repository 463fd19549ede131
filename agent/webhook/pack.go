//go:build !ztm_router

package webhook

import (
	"bytes"
	"compress/gzip"
	"net/http"
)

// pack returns a body as it is sent, and the name of that form.
func pack(body []byte) (packed []byte, encoding string) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(body)
	z.Close()
	return b.Bytes(), "gzip"
}

// throughProxy has a transport use the proxy that the environment names.
func throughProxy(t *http.Transport) { t.Proxy = http.ProxyFromEnvironment }
