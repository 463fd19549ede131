package cloud

import (
	"os"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/cloud/mirror"
	"ztm/apps/cloud/state"
)

// problems is what status says is not done, by path.
func (p *place) problems() map[string]state.Problem {
	p.t.Helper()
	var s Status
	p.must("GET", "status", nil, &s)
	all := map[string]state.Problem{}
	for _, one := range s.Problems {
		all[one.Path] = one
	}
	return all
}

func TestWhatIsPublishedNoLongerIsNoProblem(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("a file", random(10), "bob")
	bob.files("/users/alice")
	if err := os.Remove(alice.file("alice", "a file")); err != nil {
		t.Fatal(err)
	}
	const name = "/users/alice/a file"
	if d, err := bob.download(name); err != nil || d.Done != 0 {
		t.Fatalf("%+v, %v", d, err)
	}
	p := bob.problems()[name]
	if p.State != state.Missing || strings.Contains(p.Reason, name) || p.Help != "ztm cloud download '"+name+"'" || p.Since.IsZero() {
		t.Errorf("status says %+v", p)
	}
	alice.must("POST", "unpublish", Named{Path: "a file"}, nil)
	bob.files("/users/alice")
	if all := bob.problems(); len(all) != 0 {
		t.Errorf("when it is published no longer, status says %+v", all)
	}
}

func TestAMirrorWhoseDirectoryIsGoneIsAmongWhatIsNotDone(t *testing.T) {
	var n appstest.Net
	a := newMirror(t, &n, "a", bothWays)
	docs := a.file("alice", "docs")
	if err := os.Rename(docs, docs+"-away"); err != nil {
		t.Fatal(err)
	}
	a.app.eachMirror()[0].Look()
	appstest.Eventually(t, "status names it", func() bool {
		p := a.problems()["/users/alice/docs"]
		return p.State == state.Stopped && p.Reason == mirror.ErrGone.Error() && p.Help != "" && !p.Since.IsZero()
	})
	if err := os.Rename(docs+"-away", docs); err != nil {
		t.Fatal(err)
	}
	a.app.eachMirror()[0].Look()
	appstest.Eventually(t, "status is empty", func() bool { return len(a.problems()) == 0 })
}

func TestAFileOfAMirrorIsNeitherUnpublishedNorErased(t *testing.T) {
	var n appstest.Net
	a, b := newMirror(t, &n, "a", bothWays), newMirror(t, &n, "b", bothWays)
	a.write("docs/x", []byte("one"))
	b.has("docs/x", "one")
	for _, what := range []string{"unpublish", "erase"} {
		err := a.call("POST", what, Named{Path: "docs/x", Force: what == "erase"}, nil)
		if err == nil || !strings.Contains(err.Error(), "again") || !strings.Contains(err.Error(), "/users/alice/docs") {
			t.Errorf("%s: %v", what, err)
		}
	}
	no := false
	a.must("POST", "mirrors", mirror.Change{Path: "docs", Upload: &no, Download: &no}, nil)
	a.must("POST", "unpublish", Named{Path: "docs/x"}, nil)
	b.has("docs/x", "")
}
