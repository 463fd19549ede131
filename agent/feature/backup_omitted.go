//go:build ztm_router || ztm_omit_backup

package feature

// Backup is left out.
const Backup = false
