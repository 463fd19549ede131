//go:build ztm_router

package rooted

// Form returns the form in which two paths are compared that people read as the same. A router
// compares bytes: the tables of Unicode are as large as an app.
func Form(path string) string { return path }
