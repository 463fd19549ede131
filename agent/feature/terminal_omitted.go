//go:build ztm_omit_terminal

package feature

// Terminal is left out.
const Terminal = false
