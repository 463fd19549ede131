//go:build !ztm_omit_proxy

package builtin

// Proxy is the app of that name: SOCKS and HTTP.
const Proxy = true
