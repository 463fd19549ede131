package index

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/entry"
	"ztm/tunnel/unixtime"
)

// deletion is the deletion of a file, some time ago.
func deletion(path string, ago time.Duration) Published {
	return Published{Entry: entry.Entry{Path: path, Time: unixtime.MillisOf(time.Now().Add(-ago)), Deleted: true}}
}

// knows reports whether an index has a row of each path, deleted or not.
func (m *made) knows(paths ...string) bool {
	for _, p := range paths {
		if k, err := m.Get(m.self.User, p); err != nil || k == nil {
			return false
		}
	}
	return true
}

func TestWhoPublishesAndDeletesDayByDayCanGoOn(t *testing.T) {
	var n appstest.Net
	m := newIndex(t, &n, "laptop", "alice")
	m.most = 20
	m.publish(version("kept", "kept"))
	peer := entry.Reader{User: "alice"}
	for i := range 200 {
		path := fmt.Sprintf("день/%d", i)
		_, before := m.Position()
		m.publish(version(path, path))
		m.publish(deletion(path, deletedFor+time.Hour-time.Duration(i)*time.Second))
		if !m.News(peer, before) || m.users["alice"] > m.most || m.Spelled("alice", path) != path {
			t.Fatalf("after %d files there are %d rows, and the news are lost: %v", i, m.users["alice"], !m.News(peer, before))
		}
	}
	if len(m.forms) > 2*m.most+4 || len(m.order) > 2*m.most+64 {
		t.Errorf("of %d rows %d names and %d changes are in memory", m.most, len(m.forms), len(m.order))
	}
	for _, when := range []string{"at once", "after it was loaded"} {
		if got := m.names(); !slices.Equal(got, []string{"/users/alice/kept"}) || !m.knows("день/199", "день/190") || m.knows("день/0") {
			t.Errorf("%s: published are %v, and the newest deletions alone should be known", when, got)
		}
		if list, _ := m.all("alice"); len(list) != m.users["alice"] {
			t.Errorf("%s: %d rows are told as %d entries", when, m.users["alice"], len(list))
		}
		m.load()
		m.most = 20
	}
}

func TestADeletionIsKnownForThirtyDaysAndWhereTheFileIsForGood(t *testing.T) {
	var n appstest.Net
	m := newIndex(t, &n, "laptop", "alice")
	m.most = 4
	local := deletion("here", 2*deletedFor)
	local.Local = &Local{Size: 1}
	m.publish(local, deletion("today", time.Hour), deletion("lately", deletedFor-time.Hour), version("kept", "kept"))
	if err := m.Publish(m.self, []Published{version("new", "new")}); err == nil || m.knows("new") {
		t.Error("there is room for one more, and nothing that could be forgotten")
	}
	if !m.knows("here", "today", "lately", "kept") {
		t.Error("something is forgotten")
	}
	m.publish(deletion("lately", deletedFor+time.Hour))
	m.publish(version("new", "new"))
	if !m.knows("here", "today", "kept", "new") || m.knows("lately") {
		t.Error("the old deletion did not make room, or another was forgotten")
	}
	m.publish(deletion("today", deletedFor+time.Hour))
	m.publish(version("lately", "again"))
	if got := m.names(); !slices.Equal(got, []string{"/users/alice/kept", "/users/alice/lately", "/users/alice/new"}) {
		t.Errorf("published are %v", got)
	}
}

func TestFilesThatComeTogetherCountEachOnce(t *testing.T) {
	var n appstest.Net
	m := newIndex(t, &n, "laptop", "alice")
	m.most = 3
	m.publish(version("a", "1"), version("b", "1"), version("a", "2"), version("c", "1"), version("b", "2"))
	if err := m.Publish(m.self, []Published{version("a", "3"), version("d", "1")}); err == nil {
		t.Error("there are more files than there may be")
	}
	m.most = 5
	if err := m.Publish(m.self, []Published{version("d", "1"), version("a", "3"), version("e", "1"), version("f", "1")}); err == nil {
		t.Error("there are more files than there may be, of those that came together")
	}
}
