package process

import (
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

func TestGuestsLeavePlacesToTheOwnerAndToEachOther(t *testing.T) {
	var n appstest.Net
	var r *Register
	n.Join("office", "alice").New("terminal", func(h apps.Host) apps.App { r = NewRegister("terminal", h); return nil })
	rules := Rules{Users: []string{"bob", "carol", "dave"}, MaxSessions: 8}
	// fill admits programs of a user until that is refused, and returns how many there were.
	fill := func(user string) (admitted int) {
		for i := range 20 {
			p := apps.Peer{ID: identity.IDOf([]byte{byte(i)}), User: user} // each from another device
			if _, err := r.Admit(p, rules); answer.CodeOf(err) == answer.Limit {
				return admitted
			} else if err != nil {
				t.Fatal(err)
			}
			admitted++
		}
		t.Fatalf("%s has no limit", user)
		return 0
	}
	for _, tt := range []struct {
		user string
		want int
	}{{"bob", 4}, {"carol", 2}, {"dave", 0}, {"alice", 2}} {
		if got := fill(tt.user); got != tt.want {
			t.Errorf("%s has %d programs, want %d", tt.user, got, tt.want)
		}
	}
}

func TestASmallLimitIsNotDivided(t *testing.T) {
	var n appstest.Net
	var r *Register
	n.Join("office", "alice").New("terminal", func(h apps.Host) apps.App { r = NewRegister("terminal", h); return nil })
	for want := range 4 {
		_, err := r.Admit(apps.Peer{User: "bob"}, Rules{Users: []string{"bob"}, MaxSessions: 3})
		if (err == nil) != (want < 3) {
			t.Errorf("program %d: %v", want+1, err)
		}
	}
}
