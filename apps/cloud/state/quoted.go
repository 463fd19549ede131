package state

import (
	"ztm/apps"
	"ztm/tunnel/shellwords"
)

// Quoted writes the path of a file for a command that a person is shown, to be copied.
func Quoted(path string) string { return shellwords.Here(apps.Printable(path)) }
