//go:build ztm_router || ztm_omit_yaml

package feature

// YAML is left out: where it is asked for, there is JSON, which is a part of it.
const YAML = false
