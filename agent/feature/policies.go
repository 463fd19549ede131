//go:build !ztm_router && !ztm_omit_policies

package feature

// Policies is to change groups and the policy of the mesh, at an endpoint that holds the CA key. One without it obeys the policy,
// shows it, and as a holder of the key gives other endpoints their part of it.
const Policies = true
