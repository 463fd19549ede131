//go:build ztm_router || ztm_omit_audit

package feature

// Audit is left out.
const Audit = false
