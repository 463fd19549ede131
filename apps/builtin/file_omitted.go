//go:build ztm_omit_file

package builtin

// File is left out.
const File = false
