//go:build !ztm_router

package console

import (
	"bytes"
	"os"
	"path/filepath"

	"ztm/agent/console/grammar"
	"ztm/apps"
)

// writePages writes a manual page for each command into the directory that args name. It is what
// `ztm __man DIR` does, for who makes packages.
func writePages(root *grammar.Command, args []string) error {
	if len(args) != 1 {
		return apps.Usagef("want DIR")
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	return grammar.Walk([]*grammar.Command{root}, func(path []*grammar.Command) error {
		var page bytes.Buffer
		if err := grammar.Man(&page, path); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(args[0], grammar.PageName(path)+".1"), page.Bytes(), 0o644)
	})
}
