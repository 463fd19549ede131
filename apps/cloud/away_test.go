package cloud

import (
	"maps"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps/appstest"
)

func TestADeviceThatComesBackAfterThirteenMonthsResurrectsAndDeletesNothing(t *testing.T) {
	var n appstest.Net
	var away atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(away.Load())) }
	mirrored := func(name string) *place {
		p := newPlace(t, &n, name, "alice")
		p.app.still, p.app.now = 20*time.Millisecond, now
		c := bothWays
		c.Path = "docs"
		p.must("POST", "mirrors", c, nil)
		return p
	}
	here, back := mirrored("here"), mirrored("back")
	paths := []string{"kept", "deleted", "deleted there", "edited", "edited there", "edited apart", "edited there, deleted"}
	for _, path := range paths {
		here.write("docs/"+path, []byte("old "+path))
	}
	for _, path := range paths {
		back.has("docs/"+path, "old "+path)
	}
	back.host.SetOnline(false)
	edit := func(p *place, path, text string) { p.writeAt("docs/"+path, text, now()) }
	gone := func(p *place, path string) {
		if err := os.Remove(p.file("alice", "docs/"+path)); err != nil {
			t.Fatal(err)
		}
	}
	published := func(p *place, path string, deleted bool) {
		t.Helper()
		appstest.Eventually(t, path+" is published", func() bool {
			k, err := p.app.index.Get("alice", "docs/"+path)
			b, rerr := os.ReadFile(p.file("alice", "docs/"+path))
			return err == nil && k.Deleted == deleted && (deleted || rerr == nil && k.Size == int64(len(b)))
		})
	}
	edit(here, "edited", "new")
	edit(here, "edited apart", "here")
	gone(here, "deleted")
	gone(here, "edited there, deleted")
	for path, deleted := range map[string]bool{"edited": false, "edited apart": false, "deleted": true, "edited there, deleted": true} {
		published(here, path, deleted)
	}
	away.Store(int64(13 * 30 * 24 * time.Hour))
	edit(back, "edited there", "work")
	edit(back, "edited apart", "their")
	edit(back, "edited there, deleted", "worked on")
	gone(back, "deleted there")
	for path, deleted := range map[string]bool{"edited there": false, "edited apart": false, "edited there, deleted": false, "deleted there": true} {
		published(back, path, deleted)
	}
	back.host.SetOnline(true)
	want := map[string]int{"kept: old kept": 1, "edited: new": 1, "edited there: work": 1, "edited there, deleted: worked on": 1}
	for _, p := range []*place{here, back} {
		appstest.Eventually(t, p.host.Self().Name+" is in step", func() bool {
			here.files("docs")
			back.files("docs")
			got, apart := p.contents(), 0
			for name := range got {
				if strings.HasSuffix(name, ": here") || strings.HasSuffix(name, ": their") {
					apart++
					delete(got, name)
				}
			}
			return apart == 2 && maps.Equal(got, want)
		})
	}
	if !back.inTrash("old deleted") || !here.inTrash("old deleted there") {
		t.Error("what was deleted elsewhere is not in the trash")
	}
	var versions []Version
	back.must("GET", "versions?path=docs", nil, &versions)
	listed := false
	for _, v := range versions {
		listed = listed || v.Path == "/users/alice/docs/deleted"
	}
	if !listed {
		t.Errorf("what it has lost is not listed: %+v", versions)
	}
}
