//go:build ztm_router || ztm_omit_cluster

package feature

// Cluster is left out.
const Cluster = false
