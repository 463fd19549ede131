//go:build (!ztm_router || ztm_add_policies) && !ztm_omit_policies

package feature

// Policies is to change groups and the policy of the mesh and to give each endpoint its part of it, at an endpoint that holds the
// CA key. One without it obeys the policy and shows it, whether it holds the key or not.
const Policies = true
