//go:build ztm_omit_cloud

package feature

// Cloud is left out.
const Cloud = false
