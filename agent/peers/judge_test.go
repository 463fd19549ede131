package peers

import (
	"errors"
	"testing"

	"ztm/apps"
)

// keeping is an app of which something runs on without its flow, for two users.
type keeping struct {
	counting
	kept map[string]bool // by user
}

func (k *keeping) Judge(lets func(apps.Peer, string) bool) {
	for user := range k.kept {
		k.kept[user] = lets(apps.Peer{User: user}, "shell")
	}
}

func TestWhatOutlivesItsFlowIsJudgedByThePolicyThatHasChanged(t *testing.T) {
	app := &keeping{kept: map[string]bool{"bob": true, "carol": true}}
	p := &Peers{apps: map[string]apps.App{"keep": app, "count": new(counting)}}
	p.Judge = func(peer apps.Peer, app, path, _ string) error {
		if peer.User == "bob" && app == "keep" && path == "shell" {
			return nil
		}
		return errors.New("no grant")
	}
	p.ReapplyPolicy()
	if !app.kept["bob"] || app.kept["carol"] {
		t.Errorf("what runs on: %v, want that of bob", app.kept)
	}
}
