// Package mime stands in for Go 1.26's mime in binaries where size counts. net/http reads forms
// with it, of which ours have none, and says of what type a file is, of which ours serve none;
// net/http/httputil.ReverseProxy asks it which answers are to be passed on at once, and ours all
// are.
//
// It is our own, and has only what the sources of those and of mime/multipart mention.
package mime

import "errors"

// ErrLeftOut is returned instead of what a Content-Type says.
var ErrLeftOut = errors.New("mime: left out of this build")

// ParseMediaType returns [ErrLeftOut].
func ParseMediaType(string) (mediatype string, params map[string]string, err error) {
	return "", nil, ErrLeftOut
}

// TypeByExtension knows no type.
func TypeByExtension(string) string { return "" }
