//go:build !ztm_omit_mirrors

package builtin

// Mirrors is to keep a directory of the cloud in step with what is published. It wants a disk.
const Mirrors = true
