package index

import (
	"strings"
	"unicode/utf8"

	"ztm/apps/rooted"
)

// formLocked notes a key that another spelling may mean, too. Load needs no lock.
func (x *Index) formLocked(id string) {
	if !ascii(id) {
		if _, taken := x.forms[rooted.Form(id)]; !taken {
			x.forms[rooted.Form(id)] = id
		}
	}
}

func ascii(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}

// Spelled returns a user's path as the file, or a file below it, was published that people read as
// the same; the path itself where there is none, or one of exactly these bytes.
func (x *Index) Spelled(user, path string) string {
	if ascii(path) {
		return path
	}
	id, form := user+"/"+path, rooted.Form(user+"/"+path)
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, exact := x.rows[id]; exact {
		return path
	}
	if known, ok := x.forms[form]; ok {
		return strings.TrimPrefix(known, user+"/")
	}
	found := path
	for f, known := range x.forms {
		if strings.HasPrefix(known, id+"/") {
			return path
		}
		if strings.HasPrefix(f, form+"/") {
			found = upTo(known, strings.Count(id, "/")+1)[len(user)+1:]
		}
	}
	return found
}

// upTo returns the first segments of a path.
func upTo(path string, segments int) string {
	for i := range len(path) {
		if path[i] == '/' {
			if segments--; segments == 0 {
				return path[:i]
			}
		}
	}
	return path
}
