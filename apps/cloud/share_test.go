package cloud

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/index"
)

func TestAShareThatIsRefusedLeavesNoRuleBehind(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.publish("docs/x", []byte("x"))
	var groups []string
	for i := range index.MaxGroups + 1 {
		groups = append(groups, fmt.Sprint("group:g", i))
	}
	var users []string
	for i := range 300 {
		users = append(users, fmt.Sprint("u", i))
	}
	for name, who := range map[string][]string{"groups": groups, "users": users, "no name": {"a/b"}} {
		for _, path := range []string{"docs", "empty"} {
			if err := alice.call("POST", "share", ShareChange{Path: path, Add: who}, nil); err == nil {
				t.Errorf("too many, or odd, %s were taken for %s", name, path)
			}
			if r, err := alice.app.rules.Of(path + "/later"); err != nil || !r.IsNobody() {
				t.Errorf("%s: what is published in %s later is shared with %s, %v", name, path, r.Text(), err)
			}
		}
	}
	alice.publish("docs/later", []byte("later"))
}

// hooked is a state that says what happens before files are saved, and when one has been read.
type hooked struct {
	apps.State
	before atomic.Pointer[func() error] // nil: nothing
	read   atomic.Pointer[func() error] // nil: nothing; of a file of several blocks
}

func (h *hooked) Save(key string, v any) error {
	if read := h.read.Swap(nil); read != nil && strings.HasPrefix(key, "list/") {
		if err := (*read)(); err != nil {
			return err
		}
	}
	return h.State.Save(key, v)
}

func (h *hooked) SaveAll(values map[string]any) error {
	if before := h.before.Load(); before != nil {
		if err := (*before)(); err != nil {
			return err
		}
	}
	return h.State.SaveAll(values)
}

// newHooked is a place whose state is hooked.
func newHooked(t *testing.T, n *appstest.Net, name, user string) (*place, *hooked) {
	t.Helper()
	p := &place{t: t, host: n.Join(name, user), dir: filepath.Join(t.TempDir(), name)}
	var s *hooked
	app, _ := p.host.Start(t, "cloud", func(h apps.Host) apps.App {
		s = &hooked{State: h.State}
		h.State = s
		return New(h)
	})
	p.app = app.(*App)
	p.must("PATCH", "config", config.Change{LocalDir: &p.dir}, nil)
	return p, s
}

func TestFilesThatArePublishedWhileAccessIsTakenAwayHaveTheNewReaders(t *testing.T) {
	var n appstest.Net
	alice, state := newHooked(t, &n, "a", "alice")
	alice.publish("docs/x", []byte("x"))
	alice.must("POST", "share", ShareChange{Path: "docs", Add: []string{"bob", "carol"}}, nil)
	var meanwhile string
	look := func() error {
		r, err := alice.app.rules.Of("docs/new")
		meanwhile = r.Text()
		return err
	}
	state.before.Store(&look)
	alice.must("POST", "share", ShareChange{Path: "docs", Remove: []string{"bob"}}, nil)
	if meanwhile != "carol" {
		t.Errorf("a file that comes meanwhile is shared with %s", meanwhile)
	}
}

func TestAFileIsSharedWithMoreUsersThanItsDirectory(t *testing.T) {
	var n appstest.Net
	alice, _ := newHooked(t, &n, "a", "alice")
	alice.must("POST", "share", ShareChange{Path: "docs", Add: []string{"bob"}}, nil)
	alice.publish("docs/new", []byte("x"), "carol")
	known, err := alice.app.index.Get("alice", "docs/new")
	if err != nil || known == nil || known.Readers.Text() != "bob,carol" {
		t.Errorf("%+v, %v", known, err)
	}
}

func TestAccessThatIsTakenAwayWhileAFileIsReadDoesNotComeBack(t *testing.T) {
	var n appstest.Net
	alice, state := newHooked(t, &n, "a", "alice")
	for _, path := range []string{"docs/old", "docs/told"} {
		alice.publish(path, []byte("x"), "bob", "carol")
	}
	for _, tt := range []struct {
		path  string
		share []string
		want  string
	}{
		{"docs/old", nil, "carol"},
		{"docs/new", nil, "carol"},
		{"docs/told", []string{"dave"}, "carol,dave"},
	} {
		alice.must("POST", "share", ShareChange{Path: "docs", Add: []string{"bob", "carol"}}, nil)
		taken := func() error {
			return alice.call("POST", "share", ShareChange{Path: "docs", Remove: []string{"bob"}}, nil)
		}
		state.read.Store(&taken)
		alice.publish(tt.path, random(2*blocks.MinBlock), tt.share...)
		if state.read.Load() != nil {
			t.Fatal("nothing was taken away meanwhile")
		}
		known, err := alice.app.index.Get("alice", tt.path)
		if err != nil || known == nil || known.Readers.Text() != tt.want {
			t.Errorf("%s has the readers %+v, %v, want %s", tt.path, known, err, tt.want)
		}
	}
}

func TestAShareWhoseFilesCannotBeSavedLeavesTheRuleAsItWas(t *testing.T) {
	var n appstest.Net
	alice, state := newHooked(t, &n, "a", "alice")
	alice.publish("docs/x", []byte("x"))
	change := func(c ShareChange) error { c.Path = "docs"; return alice.call("POST", "share", c, nil) }
	fails := func(c ShareChange) {
		t.Helper()
		full := func() error { return errors.New("the disk is full") }
		state.before.Store(&full)
		defer state.before.Store(nil)
		if err := change(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	later := func(want string) {
		t.Helper()
		if r, err := alice.app.rules.Of("docs/later"); err != nil || r.Text() != want {
			t.Errorf("a later file is shared with %s, %v, want %s", r.Text(), err, want)
		}
	}
	fails(ShareChange{Add: []string{"bob"}})
	if rules, err := state.Keys("share/"); err != nil || len(rules) > 0 {
		t.Errorf("where there was no rule: %v, %v", rules, err)
	}
	if err := change(ShareChange{Add: []string{"bob", "carol"}}); err != nil {
		t.Fatal(err)
	}
	fails(ShareChange{Remove: []string{"bob"}})
	later("bob,carol")
}
