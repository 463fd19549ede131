package main

import (
	"errors"
	"os"
	"strings"
	"testing"

	"ztm/hub"
)

func TestAnAgentIsRestoredWithoutLosingAnEvictionOrATokensUse(t *testing.T) {
	w := newWorld(t)
	stop := w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("bob.json"))
	w.ztm("root", "invite", "carol", "--permit", w.path("carol.json"))
	w.ztm("root", "backup", w.path("root.backup")) // while it runs
	if info, err := os.Stat(w.path("root.backup")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup: %v, %v", info, err)
	}
	w.startAgent("bob")
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
	w.ztm("root", "evict", "mallory", "--force")
	if _, errs, status := w.try("root", "restore", w.path("root.backup"), "--force"); status != 1 || !strings.Contains(errs, "using") {
		t.Errorf("a restore beside the running agent: %d, %s", status, errs)
	}
	stop()
	if _, errs, status := w.try("root", "restore", w.path("root.backup")); status != 1 || !strings.Contains(errs, "--force") {
		t.Errorf("a restore over a database: %d, %s", status, errs)
	}
	w.ztm("root", "restore", w.path("root.backup"), "--force")
	w.stopHub() // which knows of the eviction, too
	w.startAgent("root")
	if err := lacks(w.evicted("root"), "mallory"); err != nil {
		t.Error("after the restore: ", err)
	}
	w.startHub(hub.Config{})
	w.connected("root")
	w.startAgent("thief")
	for _, permit := range []string{"bob.json", "carol.json"} { // used since the backup, and perhaps used
		if _, errs, status := w.try("thief", "join", "demo", "--as", "ep-thief", "--permit", w.path(permit)); status != 1 {
			t.Errorf("%s is good again: %s", permit, errs)
		}
	}
	w.ztm("root", "invite", "carol", "--permit", w.path("carol2.json"))
	if got := w.endpoint("ep-bob").User; got != "bob" {
		t.Errorf("bob is %q", got)
	}

	// On a new disk, with the passphrase.
	w.write("passphrase", "correct horse\n")
	w.ztm("root", "backup", w.path("sealed.backup"), "--passphrase-file", w.path("passphrase"))
	if _, errs, status := w.try("new", "restore", w.path("sealed.backup")); status != 1 || !strings.Contains(errs, "--passphrase-file") {
		t.Errorf("without the passphrase: %d, %s", status, errs)
	}
	w.ztm("new", "restore", w.path("sealed.backup"), "--passphrase-file", w.path("passphrase"))
	if _, errs, status := w.try("root", "backup", w.path("sealed.backup")); status != 1 || !strings.Contains(errs, "there already") {
		t.Errorf("a backup over a file: %d, %s", status, errs)
	}
}

func TestAHubIsRestoredAndTheMeshGoesOn(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("hub", "backup", "--hub", w.path("hub.backup"))
	w.ztm("root", "evict", "mallory", "--force")
	w.stopHub()
	if err := os.RemoveAll(w.path("hub")); err != nil {
		t.Fatal(err)
	}
	w.ztm("hub", "restore", w.path("hub.backup"))
	w.startHub(hub.Config{})
	for _, name := range []string{"root", "bob"} {
		w.connected(name)
	}
	w.ztm("bob", "ping", "ep", "ep-root")

	// The eviction that is newer than the backup comes back with the agents.
	w.join("carol", "carol")
	w.until("the hub has the eviction", func() error { return lacks(w.evicted("carol"), "mallory") })
}

// A hub that was lost with its disk is made again from the root permit: agents, names and evictions
// come back by themselves.
func TestAHubIsRebuiltFromTheRootPermitAlone(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("root", "evict", "mallory", "--force")
	w.until("bob knows", func() error { return lacks(w.evicted("bob"), "mallory") })
	w.stopHub()
	if err := os.RemoveAll(w.path("hub")); err != nil {
		t.Fatal(err)
	}
	w.startHub(hub.Config{})
	for _, name := range []string{"root", "bob"} {
		w.until(name+" is back", func() error {
			if out := w.ztm("root", "get", "ep", "--online"); !strings.Contains(out, "ep-"+name) {
				return errors.New(out)
			}
			return nil
		})
	}
	w.join("carol", "carol")
	w.until("a new device has the old eviction", func() error { return lacks(w.evicted("carol"), "mallory") })
	w.ztm("carol", "ping", "ep", "ep-bob")
}
