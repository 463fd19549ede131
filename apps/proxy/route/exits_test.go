package route

import (
	"os"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestExitsThatHaveLeftAreForgotten(t *testing.T) {
	e := NewExits(nil, nil)
	admitted := time.Unix(1_700_000_000, 0)
	for _, id := range []identity.ID{"stays", "left", "came again"} {
		ep := apps.Endpoint{ID: id, User: "bob", Admitted: admitted}
		if id == "came again" {
			ep.Admitted = admitted.Add(time.Hour)
		}
		e.listed = append(e.listed, ep)
		e.known[id] = &known{}
	}
	e.Left(func(p apps.Peer) bool { return p.ID != "stays" && p.Admitted <= unixtime.Of(admitted) })
	if len(e.listed) != 2 || len(e.known) != 2 || e.known["left"] != nil {
		t.Errorf("%v is listed, %v is known", e.listed, e.known)
	}
}
