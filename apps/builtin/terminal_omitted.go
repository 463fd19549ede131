//go:build ztm_omit_terminal

package builtin

// Terminal is left out.
const Terminal = false
