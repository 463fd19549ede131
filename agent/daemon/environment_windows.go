package daemon

import "io/fs"

// checkWriters accepts every file: its mode says nothing here about who may write it.
func checkWriters(fs.FileInfo) error { return nil }
