package entrance

import (
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/unixtime"
)

// pin is whose exits an inbound uses, once it has found them.
type pin struct {
	User string `json:"user"`
	// Admitted is when that user was invited: one whose eviction voids that is
	// another person. Zero where it was not known.
	Admitted unixtime.Seconds `json:"admitted,omitempty"`
	Left     bool             `json:"left,omitempty"` // the user was evicted since
}

// pinPrefix is where pins are saved: "pin/tcp/web".
const pinPrefix = "pin/"

// user returns the user whose exits the inbound uses: as configured or pinned, "" if that is open.
// It is an error if that user was evicted: who gets the name next must not get the connections.
func (e *exits) user() (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.of != "" {
		return e.of, nil
	}
	p, err := e.pinnedLocked()
	if err == nil && p.Left {
		return "", answer.Errorf(answer.Conflict, "user %s, whose exits tunnel %s used, was evicted: choose with --exits-of", p.User, e.key)
	}
	return p.User, err
}

func (e *exits) pinnedLocked() (p pin, err error) {
	_, err = e.state.Load(pinPrefix+e.key.String(), &p)
	return p, err
}

// pinLocked decides whose exits the inbound uses from now on, if that is open: those that were
// found.
func (e *exits) pinLocked(found []apps.Endpoint) error {
	if before, err := e.pinnedLocked(); err != nil || before.User != "" || e.of != "" {
		return err
	}
	p := pin{User: found[0].User}
	if !found[0].Admitted.IsZero() {
		p.Admitted = unixtime.Of(found[0].Admitted)
	}
	return e.state.Save(pinPrefix+e.key.String(), p)
}

// left notes that members have left. It reports whether the user of the pin is one of them.
func (e *exits) left(gone func(apps.Peer) bool) (user string, did bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.found = nil
	p, err := e.pinnedLocked()
	if err != nil || p.User == "" || p.Left || p.Admitted == 0 || !gone(apps.Peer{User: p.User, Admitted: p.Admitted}) {
		return "", false
	}
	p.Left = true
	return p.User, e.state.Save(pinPrefix+e.key.String(), p) == nil
}

// choose says whose exits the inbound uses; "" leaves that to the next search.
func (e *exits) choose(user string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.state.Delete(pinPrefix + e.key.String()); err != nil {
		return err
	}
	e.of, e.found = user, nil
	e.changes++
	e.failures.Forget()
	return nil
}
