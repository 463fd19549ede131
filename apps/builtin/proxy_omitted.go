//go:build ztm_omit_proxy

package builtin

// Proxy is left out.
const Proxy = false
