//go:build ztm_router || ztm_omit_js

package feature

// JavaScript is left out.
const JavaScript = false
