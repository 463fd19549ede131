package apps

import (
	"slices"
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

func TestWhatIsRemovedFromAListHasToBeThere(t *testing.T) {
	got, err := Changed("user", []string{"bob", "carol"}, []string{"ann", "bob"}, []string{"carol"})
	if err != nil || !slices.Equal(got, []string{"ann", "bob"}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := Changed("user", []string{"bob"}, nil, []string{"bob", "carrol"}); answer.CodeOf(err) != answer.NotFound {
		t.Errorf("what is not there was removed: %v", err)
	}
}
