//go:build ztm_router || ztm_omit_console

package feature

// Console is left out.
const Console = false
