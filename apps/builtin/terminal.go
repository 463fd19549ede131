//go:build !ztm_omit_terminal

package builtin

// Terminal is the app of that name: a shell there.
const Terminal = true
