package rule_test

import (
	"errors"
	"os"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/entry"
	"ztm/apps/cloud/rule"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

var none entry.Readers

var nobody = none.Text()

// memory returns the state of an app.
func memory(t *testing.T) (s apps.State) {
	t.Helper()
	var n appstest.Net
	n.Join("a", "alice").New("cloud", func(h apps.Host) apps.App {
		s = h.State
		return nil
	})
	return s
}

func set(t *testing.T, r *rule.Rules, path string, users ...string) (undo func() error) {
	t.Helper()
	undo, err := r.Set(path, entry.Readers{Users: users})
	if err != nil {
		t.Fatal(err)
	}
	return undo
}

func wants(t *testing.T, r *rule.Rules, who map[string]string) {
	t.Helper()
	for path, want := range who {
		if got, err := r.Of(path); err != nil || got.Text() != want {
			t.Errorf("a file at %q is shared with %q, %v, want %q", path, got.Text(), err, want)
		}
	}
}

func TestTheRuleOfTheNearestDirectoryCounts(t *testing.T) {
	s := memory(t)
	r := rule.New(s)
	wants(t, r, map[string]string{"docs/x": nobody})
	set(t, r, "docs", "bob")
	set(t, r, "docs/drafts", "carol")
	wants(t, r, map[string]string{"x": nobody, "docs/x": "bob", "docs/drafts/x": "carol", "docs/drafts2/x": "bob", "docs2/x": nobody})
	set(t, r, "", "dave")
	set(t, r, "docs/drafts") // nobody, which is a rule as well
	wants(t, r, map[string]string{"x": "dave", "docs/x": "bob", "docs/drafts/x": nobody, "docs2/x": "dave"})
	wants(t, rule.New(s), map[string]string{"x": "dave", "docs/drafts/x": nobody})
}

func TestAChangeThatIsUndoneLeavesTheRuleAsItWas(t *testing.T) {
	s := memory(t)
	r := rule.New(s)
	for _, path := range []string{"docs", ""} {
		undoFirst := set(t, r, path, "bob")
		undo := set(t, r, path, "carol")
		if err := undo(); err != nil {
			t.Fatal(err)
		}
		wants(t, r, map[string]string{"docs/x": "bob"})
		if err := undoFirst(); err != nil {
			t.Fatal(err)
		}
		if keys, err := s.Keys(""); err != nil || len(keys) > 0 {
			t.Errorf("where there was no rule there is one now: %q, %v", keys, err)
		}
	}
}

// full is a state that takes nothing more.
type full struct{ apps.State }

func (full) Save(string, any) error { return errors.New("the disk is full") }

func TestARuleThatCannotBeSavedIsNoFaultOfWhoAskedForIt(t *testing.T) {
	s := memory(t)
	if undo, err := rule.New(full{s}).Set("docs", entry.Readers{All: true}); err == nil || undo != nil || errors.As(err, new(*answer.Error)) {
		t.Errorf("the error of the store is told as %v", err)
	}
	wants(t, rule.New(s), map[string]string{"docs/x": nobody})
}
