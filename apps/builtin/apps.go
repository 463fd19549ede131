//go:build !ztm_omit_apps

package builtin

// Apps is the apps of others: programs that are installed, confined and reached through the mesh.
const Apps = true
