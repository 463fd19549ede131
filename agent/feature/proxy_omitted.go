//go:build ztm_omit_proxy

package feature

// Proxy is left out.
const Proxy = false
