//go:build ztm_omit_apps

package feature

// Apps is left out.
const Apps = false
