//go:build !ztm_router && !ztm_omit_audit

package feature

// Audit is sending the audit log elsewhere, to syslog and to a web server, and verifying files of it. A router has its log in
// memory, and in a file, which is verified where it is copied to.
const Audit = true
