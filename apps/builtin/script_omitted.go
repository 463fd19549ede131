//go:build ztm_omit_script

package builtin

// Script is left out.
const Script = false
