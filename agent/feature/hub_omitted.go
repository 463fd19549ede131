//go:build ztm_omit_hub

package feature

// Hub is left out.
const Hub = false
