//go:build !ztm_router && !ztm_omit_yaml

package feature

// YAML is that form of what is printed and applied, beside JSON.
const YAML = true
