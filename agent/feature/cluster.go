//go:build !ztm_router && !ztm_omit_cluster

package feature

// Cluster is hubs that share a store: `ztm run hub --store`.
const Cluster = true
