package cli

import (
	"context"
	"testing"

	"ztm/agent/kube/access"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

// knowing is a command line whose agent remembers whose some names are.
type knowing struct {
	*appstest.Console
	names map[string]string
}

func (k knowing) TrustedUser(ctx context.Context, name, offer, user string) (string, error) {
	user, err := k.Console.TrustedUser(ctx, name, offer, user)
	if was, known := k.names[name]; err == nil && known && was != user {
		err = answer.Errorf(answer.Conflict, "%s was of user %s", name, was)
	}
	return user, err
}

// TestAClusterOfAnotherUserThanBeforeIsRefused: whoever offers the name of a cluster, or that of an
// endpoint that is gone, would get what is sent there.
func TestAClusterOfAnotherUserThanBeforeIsRefused(t *testing.T) {
	var n appstest.Net
	alice, mallory := n.Join("alice", "alice"), n.Join("pod", "mallory")
	mallory.Start(t, access.Name, access.New)
	if err := mallory.API("PUT", "kube/server", access.Server{URL: "https://127.0.0.1:1", TokenFile: "none", Cluster: "office"}, nil); err != nil {
		t.Fatal(err)
	}
	for of, want := range map[string]answer.Code{"root": answer.Conflict, "mallory": ""} {
		c := &client{knowing{&appstest.Console{Host: alice}, map[string]string{"office": of}}}
		for _, user := range []string{"", "mallory"} {
			if to, err := c.way(t.Context(), "office", user); answer.CodeOf(err) != want {
				t.Errorf("office was of %s, --user %q: %+v, %v", of, user, to, err)
			}
		}
	}
}
