package run

import (
	"errors"
	"io/fs"
)

func terminate(int)               {}
func killAll(int)                 {}
func count(int) int               { return 0 }
func own(string, int) error       { return errors.ErrUnsupported }
func held(info fs.FileInfo) int64 { return info.Size() }
func gone(err error) bool         { return errors.Is(err, fs.ErrNotExist) }
