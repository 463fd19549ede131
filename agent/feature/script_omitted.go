//go:build ztm_omit_script

package feature

// Script is left out.
const Script = false
