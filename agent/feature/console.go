//go:build !ztm_router && !ztm_omit_console

package feature

// Console is `ztm console`, which a browser shows. A router is managed from another endpoint's.
const Console = true
