package cloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/state"
)

func TestWhatIsKnownIsKnownAfterARestart(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", random(600_000), "bob")
	bob.files("/")
	alice.stop()
	alice.start()
	bob.wants("/users/alice/x", random(600_000))
	bob.stop()
	bob.start()
	if got := bob.files("/users/alice&offline=1")["/users/alice/x"].State; got != state.Synced {
		t.Errorf("it is %q", got)
	}
}

// older makes what is known of alice's files what an older ztm has said.
func (p *place) older() {
	p.t.Helper()
	keys, err := p.app.host.State.Keys("entry/alice/")
	for _, k := range keys {
		var record json.RawMessage
		if _, err := p.app.host.State.Load(k, &record); err != nil {
			p.t.Fatal(err)
		}
		if err := p.app.host.State.Save(k, json.RawMessage(bytes.ReplaceAll(record, []byte(`"content":`), []byte(`"hash":`)))); err != nil {
			p.t.Fatal(err)
		}
	}
	if err != nil || len(keys) == 0 {
		p.t.Fatal("nothing is known", err)
	}
	p.stop()
	p.start()
}

func TestWhatAnOlderZtmPublishedIsPublishedAgainWithItsReadersAndNothingIsLost(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	carol, dave := newPlace(t, &n, "c", "carol"), newPlace(t, &n, "d", "dave")
	content := random(600_000)
	alice.publish("x", content, "bob", "carol")
	bob.wants("/users/alice/x", content)
	carol.files("/")
	alice.older()
	bob.older()
	if got := bob.files("/users/alice"); len(got) != 0 {
		t.Errorf("bob sees %v", got)
	}
	if err := alice.call("GET", "file?path=x", nil, nil); err == nil {
		t.Error("it counts as published")
	}
	alice.must("POST", "publish", Named{Path: "x"}, nil)
	bob.wants("/users/alice/x", content)
	if list, err := filepath.Glob(filepath.Join(filepath.Dir(bob.file("alice", "x")), "*")); err != nil || len(list) != 1 {
		t.Errorf("beside it are %v, %v", list, err)
	}
	carol.files("/users/alice")
	var d Described
	if carol.must("GET", "file?path=/users/alice/x", nil, &d); len(d.Version) != 1 || d.Version[0].N != 2 {
		t.Errorf("carol knows the version %v", d.Version)
	}
	if got := dave.files("/users/alice"); len(got) != 0 {
		t.Errorf("dave sees %v", got)
	}
}

func TestWhatOldDownloadsHaveLeftIsRemovedAtTheNextStart(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.publish("d/x", random(10))
	alice.write("d/.ztm-old.part", random(10))
	alice.write("d/.ztm-new.part", random(10))
	old := time.Now().Add(-leftTime - time.Hour)
	if err := os.Chtimes(alice.file("alice", "d/.ztm-old.part"), old, old); err != nil {
		t.Fatal(err)
	}
	alice.stop()
	alice.start()
	appstest.Eventually(t, "it is gone", func() bool {
		_, err := os.Stat(alice.file("alice", "d/.ztm-old.part"))
		return os.IsNotExist(err)
	})
	for _, name := range []string{"d/x", "d/.ztm-new.part"} {
		if _, err := os.Stat(alice.file("alice", name)); err != nil {
			t.Error(err)
		}
	}
}

func TestAUsersFilesAreKeptHereWithinTheQuota(t *testing.T) {
	var n appstest.Net
	alice, bob, carol := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob"), newPlace(t, &n, "c", "carol")
	for i := range 4 {
		alice.publish(fmt.Sprintf("d/%d", i), random(100+i), "bob")
	}
	carol.publish("x", random(300), "bob")
	quota := int64(320)
	bob.must("PATCH", "config", config.Change{Quota: &quota}, nil)
	d, err := bob.download("/users/alice/d")
	if err != nil || d.Done != 3 || len(d.Failed) != 1 {
		t.Fatalf("%+v, %v", d, err)
	}
	if !strings.Contains(d.Failed[0].Error, "the quota is 320 bytes") {
		t.Errorf("%+v, %v", d, err)
	}
	bob.wants("/users/carol/x", random(300)) // each user has their own
	bob.publish("mine", random(1000))
	gone := "/users/alice/d/0"
	if d.Failed[0].Path == gone {
		gone = "/users/alice/d/1"
	}
	bob.must("POST", "erase", Named{Path: gone, Force: true}, nil)
	if d, err := bob.download("/users/alice/d"); err != nil || d.Done != 3 {
		t.Errorf("in place of another one: %+v, %v", d, err)
	}
	quota = 0
	bob.must("PATCH", "config", config.Change{Quota: &quota}, nil)
	if d, err := bob.download("/users/alice/d"); err != nil || d.Done != 4 {
		t.Errorf("without a quota: %+v, %v", d, err)
	}
}

func TestTwoAgentsDoNotShareADirectory(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	alice.publish("x", random(10))
	bob.must("PATCH", "config", config.Change{LocalDir: &alice.dir}, nil)
	if err := bob.call("GET", "files?path=/", nil, nil); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("err is %v", err)
	}
}

func TestAPublisherThatLostItsDatabaseGoesOnWhereItWas(t *testing.T) {
	var n appstest.Net
	alice, bob := newPlace(t, &n, "a", "alice"), newPlace(t, &n, "b", "bob")
	for i := range 5 {
		alice.publish("x", random(100+i), "bob")
	}
	alice.publish("y", random(50), "bob")
	bob.wants("/users/alice/x", random(104))
	alice.stop()
	keys, _ := alice.app.host.State.Keys("")
	for _, k := range keys {
		alice.app.host.State.Delete(k)
	}
	alice.start()
	alice.must("PATCH", "config", config.Change{LocalDir: &alice.dir}, nil)
	if got := alice.files("/users/alice&offline=1"); got["/users/alice/x"].State != state.Unpublished || len(got) != 2 {
		t.Fatalf("without a database: %v", got)
	}
	if got := bob.files("/users/alice"); len(got) != 2 {
		t.Errorf("bob knows %v: something was deleted", got)
	}
	alice.publish("x", random(200))
	bob.wants("/users/alice/x", random(200))
	for _, f := range bob.files("/users/alice") {
		if f.State == state.Conflict {
			t.Errorf("there is a conflict: %v", f)
		}
	}
}

func TestAFileThatWasHereBeforeIsVerifiedAndGivenToOthers(t *testing.T) {
	var n appstest.Net
	desk := newPlace(t, &n, "a", "alice")
	file := random(300_000)
	desk.publish("x", file)
	desk.publish("y", file)
	again, phone := newPlace(t, &n, "b", "alice"), newPlace(t, &n, "c", "alice")
	again.write("x", file)
	again.write("y", random(300_001))
	if s := again.files("")["/users/alice/x"]; s.State != state.Changed {
		t.Fatalf("at first: %+v", s)
	}
	var status Status
	again.must("GET", "status", nil, &status)
	if len(status.Problems) != 2 || status.Problems[0].Help != "ztm cloud verify /users/alice/x" {
		t.Errorf("status says %+v", status.Problems)
	}
	var bad []File
	again.must("POST", "verify", Named{}, &bad)
	if len(bad) != 1 || bad[0].Path != "/users/alice/y" || bad[0].State != state.Changed {
		t.Errorf("verify says %+v", bad)
	}
	if s := again.files("")["/users/alice/x"]; s.State != state.Synced {
		t.Errorf("what was verified is %+v", s)
	}
	desk.host.SetOnline(false)
	phone.wants("/users/alice/x", file)
}
