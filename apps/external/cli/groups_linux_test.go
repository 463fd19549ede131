package cli

import (
	"context"
	"io"
	"testing"
	"time"

	"ztm/tunnel/answer"
)

// TestAnAppIsForThoseWhoAreInTheGroupNow: the program stops itself, so that its flows stay open.
func TestAnAppIsForThoseWhoAreInTheGroupNow(t *testing.T) {
	m := newMesh(t)
	dir := project(t, "{}")
	write(t, dir, "main.sh", "#!/bin/sh\nkill -STOP $$\n")
	m.good("install", "--yes", "--unconfined", dir)
	m.good("grant", "guests", "group:ops")
	to, path := m.alice.Self().ID, "app/http/alice/guests"
	if _, err := m.bob.Open(t.Context(), to, path, nil); answer.CodeOf(err) != answer.Denied {
		t.Fatalf("outside the group: %v", err)
	}
	m.net.SetGroup("ops", "bob")
	c, err := m.bob.Open(t.Context(), to, path, nil)
	if err != nil {
		t.Fatalf("in the group: %v", err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	ended, end := context.WithTimeout(t.Context(), 30*time.Second)
	defer end()
	go func() { io.Copy(io.Discard, c); end() }()
	m.net.SetGroup("ops")
	<-ended.Done()
	if ended.Err() == context.DeadlineExceeded {
		t.Error("the flow of a user who has left the group goes on")
	}
	m.good("revoke", "guests", "group:ops")
	if list := m.apps(); len(list[0].Users) != 0 {
		t.Errorf("after the group was revoked: %q", list[0].Users)
	}
}
