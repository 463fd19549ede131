//go:build ztm_router || ztm_omit_datagrams

package feature

// Datagrams is left out.
const Datagrams = false
