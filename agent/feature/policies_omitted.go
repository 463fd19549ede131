//go:build ztm_router || ztm_omit_policies

package feature

// Policies is left out.
const Policies = false
