//go:build ztm_router || ztm_omit_kubernetes

package feature

// Kubernetes is left out.
const Kubernetes = false
