//go:build !ztm_omit_script

package feature

// Script is the app of that name: programs that run there.
const Script = true
