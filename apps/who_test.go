package apps

import (
	"testing"

	"ztm/tunnel/answer"
)

func TestARuleNamesUsersGroupsLabelsThePolicyOrAll(t *testing.T) {
	for term, good := range map[string]bool{
		"bob": true, "a.b@c": true, "group:ops": true, "label:kind=till": true, "label:a+b=1": true, "@policy": true, "*": true,
		"": false, "group:": false, "label:": false, "label:a+": false, "label:a/b": false, "@Policy": false, "@bob": false, "**": false,
		"group:*": false, "groups:ops": false, "Group:ops": false, "group:ops ": false, "!bob": false, "user:bob": false, "bob\n": false,
	} {
		err := CheckWho([]string{"ann", term})
		if named := CheckNamed([]string{term}) == nil; named != (good && term != "*") {
			t.Errorf("%q may be named: %v", term, named)
		}
		if good != (err == nil) || !good && answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%q: %v", term, err)
		}
	}
}
