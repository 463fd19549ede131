package access

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

// leads makes an endpoint of a user that leads to an API server, in a cluster.
func (w *way) leads(t *testing.T, name, user, server, cluster string) *appstest.Host {
	t.Helper()
	h := w.net.Join(name, user)
	h.Start(t, Name, New)
	if err := h.API("PUT", "kube/server", Server{URL: server, TokenFile: w.token, Cluster: cluster}, nil); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestEndpointsThatLeadToOneClusterStandInForEachOther: kubectl goes on while one of them is there. Those
// of another user and of another cluster are never asked.
func TestEndpointsThatLeadToOneClusterStandInForEachOther(t *testing.T) {
	w := newWay(t, "alice")
	s, asked := upstream(t)
	wrong, strays := upstream(t)
	one, two := w.leads(t, "c", "root", s.URL, "office"), w.leads(t, "d", "root", s.URL, "office")
	w.leads(t, "e", "mallory", wrong.URL, "office")
	w.leads(t, "f", "root", wrong.URL, "other")
	var login Login
	appstest.Eventually(t, "the app runs", func() bool {
		return w.a.API("POST", "kube/logins/office", Login{Cluster: true, User: "root"}, &login) == nil
	})
	client := trusting(t, login)
	client.Transport.(*http.Transport).DisableKeepAlives = true
	ask := func() int {
		status, _ := get(t, client, login, w.tokenFor(t, "office"))
		return status
	}
	for _, away := range []*appstest.Host{nil, one, two} {
		if away != nil {
			one.SetOnline(away != one)
			two.SetOnline(away != two)
		}
		if status := ask(); status != http.StatusOK || len(asked()) == 0 {
			t.Errorf("%d", status)
		}
	}
	one.SetOnline(false)
	two.SetOnline(false)
	if status := ask(); status != http.StatusBadGateway || len(strays()) != 0 {
		t.Errorf("without them: %d, others were asked %d times", status, len(strays()))
	}
}

// TestOneNameIsOneLogin: a cluster and an endpoint that have the same name are not mixed up.
func TestOneNameIsOneLogin(t *testing.T) {
	w := newWay(t, "alice")
	w.login(t)
	for _, other := range []Login{{User: "bob"}, {User: "root", Cluster: true}} {
		if err := w.a.API("POST", "kube/logins/b", other, nil); err == nil {
			t.Errorf("%+v is taken for the login there is", other)
		}
	}
}

func TestAFailureIsJSONWhateverAPeerSaid(t *testing.T) {
	w := httptest.NewRecorder()
	fail(w, http.StatusBadGateway, "a\a\"\xff\x00")
	var got struct{ Message string }
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || !strings.HasPrefix(got.Message, "a\a\"") {
		t.Errorf("%s: %q, %v", w.Body, got.Message, err)
	}
}

// TestAClusterHasANameThatCanBeOffered: what it is called goes into the directory of the mesh.
func TestAClusterHasANameThatCanBeOffered(t *testing.T) {
	w := newWay(t, "alice")
	for _, name := range []string{"a/b", "a b", "*", "..", fmt.Sprintf("%0300d", 1)} {
		if err := w.b.API("PUT", "kube/server", Server{URL: w.server, TokenFile: w.token, Cluster: name}, nil); err == nil {
			t.Errorf("a cluster is called %q", name)
		}
	}
}

// refuser is an endpoint that is about to end: it is still found, and takes nothing.
type refuser struct{ *App }

func (refuser) Serve(_ context.Context, f apps.Flow) {
	f.Refuse(answer.Errorf(answer.Unavailable, "it ends"))
}

func TestAnEndpointThatTakesNothingIsPassedOver(t *testing.T) {
	w := newWay(t, "alice")
	w.leads(t, "c", "root", w.server, "office")
	ending := w.net.Join("d", "root")
	ending.Start(t, Name, func(h apps.Host) apps.App { return refuser{New(h).(*App)} })
	if err := ending.API("PUT", "kube/server", Server{URL: w.server, TokenFile: w.token, Cluster: "office"}, nil); err != nil {
		t.Fatal(err)
	}
	l := logins{host: apps.Host{Mesh: w.a}}
	for range 30 {
		c, err := l.open(t.Context(), Login{Name: "office", Cluster: true, User: "root"})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}
