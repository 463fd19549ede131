package mirror

import (
	"io/fs"
	"os"

	"ztm/apps/rooted"
)

// respell gives files that were found the names that they are known by, where the disk has made
// another form of Unicode of those, as HFS+ does. Otherwise one would be gone and the other new. Two
// files whose names are in two forms stay two.
func (m *Keeper) respell(found Found, known map[string]*Published) {
	missing := map[string]string{} // by form
	for rel := range known {
		if _, here := found.Files[rel]; !here && !ascii(rel) {
			missing[rooted.Form(rel)] = rel
		}
	}
	if len(missing) == 0 {
		return
	}
	one := m.One
	if one == nil {
		one = m.isOne
	}
	for rel, st := range found.Files {
		name, ok := missing[rooted.Form(rel)]
		if _, is := known[rel]; !ok || is || !one(name, rel) {
			continue
		}
		delete(found.Files, rel)
		found.Files[name] = st
	}
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// isOne asks the disk for both names.
func (m *Keeper) isOne(a, b string) bool {
	root, err := m.root()
	if err != nil {
		return false
	}
	defer root.Close()
	first, err := look(root, a)
	if err != nil {
		return false
	}
	second, err := look(root, b)
	return err == nil && os.SameFile(first, second)
}

func look(root *rooted.Dir, path string) (fs.FileInfo, error) {
	p, err := rooted.LocalPath(path)
	if err != nil {
		return nil, err
	}
	in, n := p.Split()
	dir, err := root.At(in)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Stat(n)
}
