//go:build (ztm_router && !ztm_add_apps) || ztm_omit_apps

package builtin

// Apps is left out.
const Apps = false
