package external

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/external/install"
	"ztm/apps/external/manifest"
	"ztm/tunnel/answer"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// TestWhatProgramsOfferDoesNotTakeTheRecordOfTheEndpoint: an endpoint whose record is refused is in
// the mesh no more.
func TestWhatProgramsOfferDoesNotTakeTheRecordOfTheEndpoint(t *testing.T) {
	long := strings.Repeat("x", 63)
	ids, more := []string{long + "/" + long}, map[string][]string{}
	for i := range 30 {
		id := fmt.Sprintf("alice/app-%02d", i)
		ids = append(ids, id)
		for j := range 16 {
			more[id] = append(more[id], fmt.Sprintf("room-%d", j))
		}
	}
	more["alice/app-00"] = append([]string{long + long[:50]}, more["alice/app-00"]...)
	names, size := offered(ids, more), 0
	for _, name := range names {
		size += len(name)
		if len(Name+"/"+name) > 128 {
			t.Errorf("%s is longer than an offer may be", name)
		}
	}
	if len(names) > 64 || size > 4<<10 {
		t.Errorf("%d names, %d bytes", len(names), size)
	}
	for _, id := range ids[1:] {
		if !slices.Contains(names, id) {
			t.Errorf("%s is not offered: another one has its place", id)
		}
	}
	if !slices.Contains(names, "alice/app-00/room-0") {
		t.Error("nothing beside the apps is offered")
	}
}

// TestFilesOfAnAppAreLookedForWhereItIsStarted: a request to one that runs does not need them.
func TestFilesOfAnAppAreLookedForWhereItIsStarted(t *testing.T) {
	var n appstest.Net
	h := n.Join("office", "alice")
	h.Dir = t.TempDir()
	a := h.New(Name, New).(*App)
	m := manifest.Manifest{Provider: "alice", Name: "guests", Version: "1", Sequence: 1}
	if err := a.host.State.Save("installed/alice/guests", install.App{Installed: manifest.Installed{Manifest: m}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.lookup("alice/guests"); err != nil {
		t.Errorf("for a request: %v", err)
	}
	if _, err := a.spec("alice/guests"); answer.CodeOf(err) != answer.Unavailable || !strings.Contains(err.Error(), "files are not here") {
		t.Errorf("for a start: %v", err)
	}
}

// TestAHubThatIsSlowDelaysNoRequest: telling the mesh what is offered takes as long as a hub does.
func TestAHubThatIsSlowDelaysNoRequest(t *testing.T) {
	var n appstest.Net
	h := n.Join("office", "alice")
	h.Dir = t.TempDir()
	begun, release := make(chan struct{}), make(chan struct{})
	a := h.New(Name, func(host apps.Host) apps.App {
		host.Offer = func([]string) { close(begun); <-release }
		return New(host)
	}).(*App)
	told, asked := make(chan struct{}), make(chan struct{})
	go func() { a.offer(); close(told) }()
	<-begun
	go func() { a.lookup("alice/guests"); close(asked) }()
	select {
	case <-asked:
	case <-time.After(appstest.Timeout):
		t.Error("a request waits for the hub")
	}
	close(release)
	<-told
	<-asked
}
