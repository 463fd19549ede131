package cluster

import (
	"strings"
	"testing"

	"ztm/tunnel/identity"
)

// FuzzHolder holds that whatever somebody puts into etcd, a name is an endpoint's, a user's, or
// nobody's whom a hub would let in.
func FuzzHolder(f *testing.F) {
	id := strings.Repeat("a", 32)
	f.Add(holder{ID: identity.ID(id)}.bytes())
	f.Add(holder{User: "bob", Until: 1_800_000_000}.bytes())
	f.Add([]byte(`{"id":"` + id + `","user":"bob"}`))
	f.Add([]byte(`{"user":"../x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseHolder(b)
		if !ok {
			return
		}
		if (h.ID == "") == (h.User == "") {
			t.Errorf("%q is of %q and of %q", b, h.ID, h.User)
		}
		if again, ok := parseHolder(h.bytes()); !ok || again != h {
			t.Errorf("%q is %+v, and %+v when it is written again", b, h, again)
		}
	})
}

// FuzzKey holds that a key is of one thing, and is the key of that.
func FuzzKey(f *testing.F) {
	d := &Directory{prefix: prefixOf("mesh")}
	f.Add(d.nameKey("office"))
	f.Add(d.epKey(identity.ID(strings.Repeat("a", 32))))
	f.Add(d.prefix + headKey)
	f.Add(d.nameKey("a/b"))
	f.Fuzz(func(t *testing.T, key string) {
		switch name, id := d.parse(key); {
		case name != "" && id != "":
			t.Errorf("%q is of %q and of %q", key, name, id)
		case name != "" && d.nameKey(name) != key, id != "" && d.epKey(id) != key:
			t.Errorf("%q is of %q%q, which has another", key, name, id)
		}
	})
}
