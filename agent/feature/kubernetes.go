//go:build !ztm_router && !ztm_omit_kubernetes

package feature

// Kubernetes is an agent in a cluster: `ztm run agent --kubernetes`.
const Kubernetes = true
