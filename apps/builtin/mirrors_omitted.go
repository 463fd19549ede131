//go:build ztm_omit_mirrors

package builtin

// Mirrors is left out.
const Mirrors = false
