package apps

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ztm/tunnel/answer"
)

func TestWhoIsRefusedReadsWhatTheOwnerCanDo(t *testing.T) {
	const command = "ztm terminal config --add-user USER"
	var hint *HintError
	if err := OwnerHint(answer.Errorf(answer.Denied, "not allowed"), command); !errors.As(err, &hint) || !strings.Contains(hint.Hint, command) || answer.CodeOf(err) != answer.Denied {
		t.Errorf("a refusal: %+v", err)
	}
	for _, err := range []error{nil, answer.Errorf(answer.Refused, "nothing listens there")} {
		if got := OwnerHint(err, command); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}

func TestARefusalTellsOthersNothingAndTheOwnerTheReason(t *testing.T) {
	const never = "not allowed (ref 7f3a19): ask the owner of srv-7"
	self := Endpoint{Name: "srv-7", User: "alice"}
	for _, test := range []struct {
		name, user string
		err        error
		code       answer.Code
		text       string
	}{
		{"no rule", "bob", answer.Errorf(answer.Denied, "no rule"), answer.Denied, never},
		{"another reason", "bob", answer.Errorf(answer.Denied, "not from this device"), answer.Denied, never},
		{"an excluded address", "bob", answer.Errorf(answer.Prohibited, "db is 10.0.0.5, excluded"), answer.Prohibited, never},
		{"a former right", "bob", &Ended{"tunnel tcp/ssh", time.Unix(1796403600, 0), answer.Errorf(answer.Denied, "grant contractor")}, answer.Denied,
			"your access to tunnel tcp/ssh at srv-7 ended 2026-12-04T17:00:00Z (ref 7f3a19): ask its owner"},
		{"the owner", "alice", answer.Errorf(answer.Denied, "not from this device"), answer.Denied, "not from this device"},
		{"nobody", "", answer.Errorf(answer.Denied, "no rule"), answer.Denied, never},
		{"no matter of rights", "bob", answer.Errorf(answer.Refused, "target refused"), answer.Refused, "target refused"},
		{"a fault", "bob", errors.New("/etc/secret"), answer.Internal, answer.Public(errors.New("")).Message},
	} {
		got := Refusal(self, Peer{User: test.user}, "7f3a19", test.err)
		if got.Code != test.code || got.Message != test.text {
			t.Errorf("%s: got %s %q, want %s %q", test.name, got.Code, got.Message, test.code, test.text)
		}
	}
	if got := Refusal(Endpoint{Name: "srv-7"}, Peer{}, "7f3a19", answer.Errorf(answer.Denied, "no rule")); got.Message != never {
		t.Errorf("of an endpoint whose user is not known: %q", got.Message)
	}
}
