package state

import (
	"strings"

	"ztm/apps"
)

// Quoted writes a path so that a shell takes it as one word.
func Quoted(path string) string {
	plain := func(r rune) bool {
		return !(r == '/' || r == '.' || r == '_' || r == '-' || r == '@' || r == '+' || r == ':' || r == ',' ||
			'0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z')
	}
	if strings.IndexFunc(path, plain) < 0 {
		return path
	}
	return "'" + strings.ReplaceAll(apps.Printable(path), "'", `'\''`) + "'"
}
