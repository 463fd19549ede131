//go:build !ztm_omit_proxy

package feature

// Proxy is the app of that name: SOCKS and HTTP.
const Proxy = true
