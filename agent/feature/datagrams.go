//go:build !ztm_router && !ztm_omit_datagrams

package feature

// Datagrams is UDP between two devices, for the datagrams of their flows. Without it they are in the session, by TCP.
const Datagrams = true
