package agent

import (
	"crypto/ed25519"
	"testing"
	"time"

	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// someone is an endpoint of a user with an ID of its own.
func someone(t *testing.T, name, user string) apps.Endpoint {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return apps.Endpoint{ID: identity.IDOf(public), Name: name, User: user}
}

func TestANameIsPinnedToItsUserOnFirstUse(t *testing.T) {
	m, _ := newTestMesh(t, "bob", time.Now())
	first := someone(t, "box", "alice")
	if _, known, err := m.pin("box", first); known || err != nil {
		t.Fatalf("at first: known %v, %v", known, err)
	}
	if was, known, err := m.pin("box", first); !known || was.ID != first.ID || err != nil {
		t.Fatalf("the same again: %v, known %v, %v", was, known, err)
	}
	second := someone(t, "box", "alice")
	if was, known, err := m.pin("box", second); !known || was.ID != first.ID || err != nil {
		t.Fatalf("another device of the same user: %v, known %v, %v", was, known, err)
	}
	for range 2 {
		if _, _, err := m.pin("box", someone(t, "box", "mallory")); answer.CodeOf(err) != answer.Conflict {
			t.Errorf("another user: %v", err)
		}
	}
	if was, _, err := m.pin("box", second); was.ID != second.ID || err != nil {
		t.Errorf("the one that is known, after that: %v, %v", was, err)
	}
	if err := m.Unpin("bocks"); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("a name that was never pinned is forgotten: %v", err)
	}
	if err := m.Unpin("box"); err != nil {
		t.Fatal(err)
	}
	if _, known, err := m.pin("box", someone(t, "box", "mallory")); known || err != nil {
		t.Errorf("a name that was forgotten: known %v, %v", known, err)
	}
}

func TestANameDoesNotPassToWhoeverIsInvitedAfterAnEviction(t *testing.T) {
	m, ca := newTestMesh(t, rootUser, time.Now())
	now := time.Now()
	old := someone(t, "box", "bob")
	old.Admitted = now.Truncate(time.Second)
	if _, _, err := m.pin("box", old); err != nil {
		t.Fatal(err)
	}
	list, err := m.verifier.Trust().Evict(ca, "bob", now)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.authority.UpdateTrust(list.Document()); err != nil {
		t.Fatal(err)
	}
	next := someone(t, "box", "bob")
	next.Admitted = list.Admission("bob", now)
	if _, _, err := m.pin("box", next); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("the next bob: %v", err)
	}
}

// TestTheNameOfAClusterIsPinnedToItsUser: it is sent what is typed, as an endpoint is.
func TestTheNameOfAClusterIsPinnedToItsUser(t *testing.T) {
	m, _ := newTestMesh(t, "bob", time.Now())
	if _, _, err := m.pin("kube-office", someone(t, "kube-office", "alice")); err != nil {
		t.Fatal(err)
	}
	of := func(users ...string) (list []apps.Endpoint) {
		for _, u := range users {
			list = append(list, someone(t, "pod", u))
		}
		return list
	}
	for _, tt := range []struct {
		of, name string
		users    []string
		want     answer.Code
	}{
		{"another user than that of the endpoint with the name", "kube-office", []string{"mallory"}, answer.Conflict},
		{"the user of that endpoint", "kube-office", []string{"alice", "alice"}, ""},
		{"a user, at first", "lab", []string{"alice", "alice"}, ""},
		{"two users", "lab", []string{"alice", "mallory"}, answer.Conflict},
		{"another user, later", "lab", []string{"mallory"}, answer.Conflict},
		{"other endpoints of the user", "lab", []string{"alice"}, ""},
		{"nobody", "lab", nil, answer.NotFound},
	} {
		if _, err := m.choose(tt.name, of(tt.users...), true); answer.CodeOf(err) != tt.want {
			t.Errorf("%s: %v", tt.of, err)
		}
	}
	if _, _, err := m.pin("lab", someone(t, "lab", "mallory")); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("an endpoint of another user with the name of the cluster: %v", err)
	}
}
