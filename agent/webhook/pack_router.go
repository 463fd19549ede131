//go:build ztm_router

package webhook

import "net/http"

// pack sends a body as it is: a router's ztm compresses nothing.
func pack(body []byte) (packed []byte, encoding string) { return body, "identity" }

// throughProxy changes nothing: a router is in front of what it tells.
func throughProxy(*http.Transport) {}
