//go:build (ztm_router && !ztm_add_policies) || ztm_omit_policies

package feature

// Policies is left out.
const Policies = false
