//go:build ztm_omit_apps

package builtin

// Apps is left out.
const Apps = false
