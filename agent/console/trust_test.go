package console

import (
	"errors"
	"testing"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/tunnel/answer"
)

// TestTheUserOfAClusterIsAskedOfTheMemoryOfNames: a refusal says how the name is forgotten.
func TestTheUserOfAClusterIsAskedOfTheMemoryOfNames(t *testing.T) {
	c := at(t, map[string]any{
		"POST " + api.OfferNamePath("demo", "office", "kube/api/office", ""): api.Resolved{Endpoint: apps.Endpoint{User: "root"}},
		"POST " + api.OfferNamePath("demo", "lab", "kube/api/lab", "bob"):    answer.Errorf(answer.Conflict, "it was of user root"),
	})
	if user, err := c.TrustedUser(t.Context(), "office", "kube/api/office", ""); user != "root" || err != nil {
		t.Errorf("%q, %v", user, err)
	}
	_, err := c.TrustedUser(t.Context(), "lab", "kube/api/lab", "bob")
	var hint *apps.HintError
	if answer.CodeOf(err) != answer.Conflict || !errors.As(err, &hint) || hint.Hint != "if its owner says that this is right: ztm mesh demo forget lab" {
		t.Errorf("%v", err)
	}
}
