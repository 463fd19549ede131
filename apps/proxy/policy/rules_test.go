package policy

import "testing"

func TestRulesThatAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		rule Rule
	}{
		{"allow nobody in particular", Rule{Targets: []string{"*"}, Action: "allow"}},
		{"allow a user without a name", Rule{Users: []string{""}, Action: "allow"}},
		{"no action", Rule{Users: []string{"bob"}}},
		{"a target that makes no sense", Rule{Users: []string{"bob"}, Targets: []string{"a b"}, Action: "deny"}},
	} {
		if _, err := New("alice", nil, nil, []Rule{tt.rule}); err == nil {
			t.Errorf("%s: accepted", tt.name)
		}
	}
}
