package access

import (
	"net"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

// TestAPortThatIsTakenIsNamedWithWhatHelps: a login keeps its port, which another program may have by now.
func TestAPortThatIsTakenIsNamedWithWhatHelps(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	certificate, key, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	var n appstest.Net
	l := logins{host: apps.Host{Mesh: n.Join("a", "alice")}, ctx: t.Context()}
	err = l.startLocked(&login{saved: saved{Login{Name: "office", Listen: taken.Addr().String(), Certificate: certificate}, key}})
	if answer.CodeOf(err) != answer.Conflict || !strings.Contains(err.Error(), "listen "+taken.Addr().String()+": ") || !strings.Contains(err.Error(), "choose another port") {
		t.Errorf("%v", err)
	}
}
