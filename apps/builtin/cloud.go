//go:build !ztm_omit_cloud

package builtin

// Cloud is the app of that name: files that are published in the mesh.
const Cloud = true
