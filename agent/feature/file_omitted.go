//go:build ztm_omit_file

package feature

// File is left out.
const File = false
