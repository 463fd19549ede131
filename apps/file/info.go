package file

import (
	"io/fs"

	"ztm/apps/rooted"
)

// The types of [Info].
const (
	TypeFile  = "file"
	TypeDir   = "directory"
	TypeLink  = "link"
	TypeOther = "other"
)

func infoOf(n rooted.Name, i fs.FileInfo) *Info {
	kind := TypeOther
	switch {
	case i.Mode().IsRegular():
		kind = TypeFile
	case i.IsDir():
		kind = TypeDir
	case i.Mode()&fs.ModeSymlink != 0:
		kind = TypeLink
	}
	return &Info{Name: n.Bytes(), Type: kind, Size: i.Size(), Mode: i.Mode().String(), Time: i.ModTime().UTC()}
}
