//go:build ztm_omit_cloud

package builtin

// Cloud is left out.
const Cloud = false
