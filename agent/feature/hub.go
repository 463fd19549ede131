//go:build !ztm_omit_hub

package feature

// Hub is the command `ztm run hub`.
const Hub = true
