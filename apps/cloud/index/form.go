package index

import (
	"strings"
	"unicode/utf8"

	"ztm/apps/rooted"
)

// formLocked notes a key that another spelling may mean, too, and the directories that it is in. Each
// is there as it is, and by its form as the first one of that form. Load needs no lock.
func (x *Index) formLocked(id string) {
	for !ascii(id) && x.forms[id] != id {
		x.forms[id] = id
		if _, taken := x.forms[rooted.Form(id)]; !taken {
			x.forms[rooted.Form(id)] = id
		}
		id = id[:max(0, strings.LastIndexByte(id, '/'))]
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
	id := user + "/" + path
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.forms[id] == id {
		return path
	}
	if known, ok := x.forms[rooted.Form(id)]; ok {
		return strings.TrimPrefix(known, user+"/")
	}
	return path
}
