//go:build (ztm_router && !ztm_add_mirrors) || ztm_omit_mirrors

package builtin

// Mirrors is left out.
const Mirrors = false
