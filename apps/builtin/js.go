//go:build !ztm_router && !ztm_omit_js

package builtin

// JavaScript is the engine of the app script, 8 MB that scripts in other languages do without.
const JavaScript = true
