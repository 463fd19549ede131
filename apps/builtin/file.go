//go:build !ztm_omit_file

package builtin

// File is the app of that name: copies between endpoints.
const File = true
