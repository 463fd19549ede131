//go:build !ztm_router

package rooted

import "golang.org/x/text/unicode/norm"

// Form returns the form in which two paths are compared that people read as the same: NFC of
// Unicode. Files keep the form that they were published in.
func Form(path string) string { return norm.NFC.String(path) }
