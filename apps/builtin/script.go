//go:build !ztm_omit_script

package builtin

// Script is the app of that name: programs that run there.
const Script = true
