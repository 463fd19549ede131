//go:build ztm_router || ztm_omit_js

package builtin

// JavaScript is left out.
const JavaScript = false
