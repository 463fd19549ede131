//go:build !ztm_router && !ztm_omit_backup

package feature

// Backup is the commands `ztm backup` and `ztm restore`. A router is set up again with a new permit.
const Backup = true
