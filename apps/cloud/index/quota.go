package index

import (
	"strings"

	"ztm/tunnel/answer"
)

// bytes returns how much of the content is here, as far as it counts for a quota.
func (r *Row) bytes() int64 {
	if r.Deleted || r.Held != All {
		return 0
	}
	return r.Size
}

// Claim keeps room for a file in what its user may have here, until it is here or released.
func (x *Index) Claim(row Row, quota int64) (release func(), err error) {
	id := row.User + "/" + row.Path
	x.mu.Lock()
	defer x.mu.Unlock()
	would := x.kept[row.User] + row.Size
	for other, size := range x.claims {
		if other != id && strings.HasPrefix(other, row.User+"/") {
			would += size
		}
	}
	if would > quota {
		return nil, answer.Errorf(answer.Limit, "%s has %d bytes: with it the files of user %s here would take %d, and the quota is %d bytes; ztm cloud config --quota changes it",
			row.Name(), row.Size, row.User, would, quota)
	}
	x.claims[id] = row.Size
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.claims, id)
	}, nil
}
