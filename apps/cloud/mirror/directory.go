package mirror

import "ztm/apps/rooted"

// Directory is the content of a directory. A mirror publishes one in which nothing is, and no other:
// what is in one brings it along.
const Directory Content = "directory"

// empty reports whether there is nothing at all in a directory. One that cannot be read is not.
func empty(in *rooted.Dir, n rooted.Name) bool {
	d, err := in.Sub(n)
	if err != nil {
		return false
	}
	defer d.Close()
	is, err := d.Empty()
	return err == nil && is
}

// keepDirs counts directories that are published as there, though something is in them by now.
func (f Found) keepDirs(known map[string]*Published) {
	for rel, k := range known {
		if f.Full[rel] && (k.Shared == Directory || k.Last == Directory) {
			f.Files[rel] = Stat{Dir: true}
		}
	}
}

// isDir reports whether a path is a directory, as far as is known.
func (p *Published) isDir() bool {
	return p.Shared == Directory || p.Shared == "" && p.Last == Directory
}
