//go:build !ztm_xterm

package web

import (
	"embed"
	"io/fs"
)

// fetched is empty: this binary was built without the files of others.
func fetched() fs.FS { return embed.FS{} }
