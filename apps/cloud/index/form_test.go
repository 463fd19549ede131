package index

import (
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/rooted"
)

func TestAPathIsSpelledAsItWasPublishedFirstUnlessTheseBytesWereToo(t *testing.T) {
	const composed, decomposed = "caf\u00e9", "cafe\u0301"
	if rooted.Form(decomposed) != composed {
		t.Skip("this build compares bytes")
	}
	var n appstest.Net
	m := newIndex(t, &n, "a", "alice")
	m.publish(version("d/"+decomposed+"/"+decomposed+"/x", "1"))
	check := func(path, want string) {
		t.Helper()
		if got := m.Spelled("alice", path); got != want {
			t.Errorf("%+q is spelled %+q", path, got)
		}
	}
	check("d/"+composed, "d/"+decomposed)
	check("d/"+composed+"/"+composed, "d/"+decomposed+"/"+decomposed)
	check("d/"+composed+"/"+composed+"/x", "d/"+decomposed+"/"+decomposed+"/x")
	check("d/"+composed+"/y", "d/"+composed+"/y")
	m.publish(version("d/"+composed+"/z", "2"))
	check("d/"+composed, "d/"+composed)
	check("d/"+decomposed, "d/"+decomposed)
	m.load()
	check("d/"+composed, "d/"+composed)
	check("d/"+decomposed, "d/"+decomposed)
	check("d/"+composed+"/"+composed, "d/"+decomposed+"/"+decomposed)
}
