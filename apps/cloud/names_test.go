package cloud

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/rooted"
)

func TestANameIsFoundInEachFormOfUnicodeAndKeepsItsOwn(t *testing.T) {
	const composed, decomposed = "caf\u00e9", "cafe\u0301"
	if rooted.Form(decomposed) != composed {
		t.Skip("this build compares bytes")
	}
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish(decomposed+"/"+decomposed, random(10), "bob")
	d, err := bob.download("/users/alice/" + composed + "/" + composed)
	if err != nil || d.Done != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := os.Stat(bob.file("alice", decomposed+"/"+decomposed)); err != nil {
		t.Error(err)
	}
	if got := bob.files(url.QueryEscape("/users/alice/" + composed)); len(got) != 1 {
		t.Errorf("below the directory: %v", got)
	}
	// A second name of the file itself, as a disk has it that makes its own form of names, is the file.
	if err := os.Link(alice.file("alice", decomposed+"/"+decomposed), alice.file("alice", decomposed+"/"+composed)); err == nil {
		if got := alice.files(""); len(got) != 1 {
			t.Errorf("it is listed as %v", got)
		}
		os.Remove(alice.file("alice", decomposed+"/"+composed))
	}
	alice.write(decomposed+"/"+composed, random(20))
	var results []Result
	alice.must("POST", "publish", Named{Path: decomposed + "/" + composed}, &results)
	if len(results) != 1 || !strings.Contains(results[0].Error, "another form of Unicode") {
		t.Errorf("a second file that looks the same: %+v", results)
	}
}
