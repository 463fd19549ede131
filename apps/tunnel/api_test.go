package tunnel_test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/apps/tunnel"
	"ztm/apps/tunnel/entrance"
	"ztm/apps/tunnel/exit"
	"ztm/apps/tunnel/spec"
	"ztm/apps/tunnel/tunneltest"
	"ztm/tunnel/answer"
)

func TestBadRequestsAreAnsweredClearlyAndChangeNothing(t *testing.T) {
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "alice")
	taken := tunneltest.ListenTCP(t, "127.0.0.1:0")
	b.Offer(t, "tcp/web", "127.0.0.1:80", `"users":["carol"]`)
	address := appstest.FreeAddress(t)
	b.MustCall(t, "POST", "/inbound/tcp/web", `{"listens":["`+address+`"]}`, nil)
	file := t.TempDir() + "/file"
	os.WriteFile(file, []byte("precious"), 0o600)
	appstest.Eventually(t, "the inbound has found its user", func() bool { return b.InboundStatus(t, "tcp/web").ExitsUser != "" })
	before := b.App.Status()

	list := func(s string) string { return `{"listens":[` + s + `]}` }
	targets := `"targets":["127.0.0.1:80"]`
	tests := []struct {
		name, request, body string
		code                answer.Code
		text                string
	}{
		{"port in use", "POST /inbound/tcp/web", list(`"` + taken.Addr().String() + `"`), answer.Conflict, "listen " + taken.Addr().String() + ": the address is in use"},
		{"one of several in use", "POST /inbound/tcp/web", list(`"0","` + taken.Addr().String() + `"`), answer.Conflict, "in use"},
		{"another inbound's port", "POST /inbound/tcp/two", list(`"` + address + `"`), answer.Conflict, "inbound tcp/web already listens on " + address},
		{"address of another machine", "POST /inbound/tcp/two", list(`"192.0.2.1:8080"`), answer.BadRequest, "this machine does not have that address"},
		{"listens that overlap", "POST /inbound/tcp/two", list(`"7000-7010","*:7010-7020"`), answer.BadRequest, "127.0.0.1:7000-7010 and *:7010-7020 overlap"},
		{"ranges that differ", "POST /inbound/tcp/two", list(`"7000-7010","8000-8011"`), answer.BadRequest, "different numbers of ports"},
		{"no listen", "POST /inbound/tcp/two", `{}`, answer.BadRequest, "at least one address"},
		{"no port", "POST /inbound/tcp/two", list(`"host:http"`), answer.BadRequest, "is not a port"},
		{"file in the way", "POST /inbound/tcp/two", list(`"unix:` + file + `"`), answer.BadRequest, "there is a file of that name"},
		{"relative socket", "POST /inbound/tcp/two", list(`"unix:x"`), answer.BadRequest, "not absolute"},
		{"exit that is no ID", "POST /inbound/tcp/two", `{"listens":["0"],"exits":["home"]}`, answer.BadRequest, "not an ID"},
		{"unknown protocol", "POST /inbound/sctp/two", list(`"0"`), answer.BadRequest, "want tcp/NAME or udp/NAME"},
		{"odd name", "POST /inbound/tcp/a%20b", list(`"0"`), answer.BadRequest, "a name has letters"},
		{"long name", "POST /inbound/tcp/" + strings.Repeat("x", 64), list(`"0"`), answer.BadRequest, "a name has letters"},
		{"misspelt field", "POST /outbound/tcp/web", `{` + targets + `,"user":["bob"]}`, answer.BadRequest, "user"},
		{"body about another", "POST /outbound/tcp/web", `{` + targets + `,"name":"two"}`, answer.BadRequest, "the body is about tcp/two"},
		{"two objects", "POST /outbound/tcp/web", `{` + targets + `}{}`, answer.BadRequest, "more after the end"},
		{"no JSON", "POST /outbound/tcp/web", `targets`, answer.BadRequest, "invalid character"},
		{"huge body", "POST /outbound/tcp/web", `{"users":["` + strings.Repeat("x", 1<<20) + `"]}`, answer.BadRequest, "more than"},
		{"no target", "POST /outbound/tcp/web", `{"targets":[]}`, answer.BadRequest, "at least one address"},
		{"empty target", "POST /outbound/tcp/web", `{"targets":[""]}`, answer.BadRequest, "is not a port"},
		{"target without port", "POST /outbound/tcp/web", `{"targets":["host:0"]}`, answer.BadRequest, "host:0 is nothing to connect to: name a port"},
		{"target everywhere", "POST /outbound/tcp/web", `{"targets":["*:80"]}`, answer.BadRequest, "*:80 is nothing to connect to: name a host"},
		{"target twice", "POST /outbound/tcp/web", `{"targets":["a:80","b:80","a:80"]}`, answer.BadRequest, "a:80 is there twice"},
		{"target ranges that differ", "POST /outbound/tcp/web", `{"targets":["a:80-82","b:80"]}`, answer.BadRequest, "a:80-82 and b:80 have different numbers of ports, 3 and 1"},
		{"check of udp targets", "POST /outbound/udp/dns", `{"targets":["a:53"],"check":"tcp"}`, answer.BadRequest, "outbound udp/dns: check: nobody can connect to a udp target"},
		{"check of very many ports", "POST /outbound/tcp/web", `{"targets":["a:1-100","b:1-100"],"check":"tcp"}`, answer.BadRequest, "have 200 ports, and at most 128 are checked"},
		{"unknown check", "POST /outbound/tcp/web", `{` + targets + `,"check":"ping"}`, answer.BadRequest, "is not tcp or http:/PATH"},
		{"all users", "POST /outbound/tcp/web", `{` + targets + `,"users":["*"]}`, answer.BadRequest, "neither a user nor a group"},
		{"empty user", "POST /outbound/tcp/web", `{` + targets + `,"users":[""]}`, answer.BadRequest, "neither a user nor a group"},
		{"users by a label that is none", "POST /outbound/tcp/web", `{` + targets + `,"users":["label:a/b"]}`, answer.BadRequest, "neither a user nor a group"},
		{"exits of nobody", "POST /inbound/tcp/two", `{"listens":["0"],"exitsOf":"@grp"}`, answer.BadRequest, "must start with a letter"},
		{"rule for a group", "POST /allow", `{"target":"10.0.0.0/8:22","users":["group:"]}`, answer.BadRequest, "neither a user nor a group"},
		{"long socket", "POST /inbound/tcp/two", list(`"unix:/` + strings.Repeat("x", 200) + `"`), answer.BadRequest, "a socket's has at most"},
		{"name in another script", "POST /outbound/tcp/web", `{"targets":["пример.рф:80"]}`, answer.BadRequest, "letters of DNS"},
		{"socket whose name JSON has damaged", "POST /outbound/tcp/web", "{\"targets\":[\"unix:/caf\xe9\"]}", answer.BadRequest, "not UTF-8"},
		{"user twice", "POST /outbound/tcp/web", `{` + targets + `,"users":["bob","bob"]}`, answer.BadRequest, "twice"},
		{"entrance that is no ID", "POST /outbound/tcp/web", `{` + targets + `,"entrances":["x"]}`, answer.BadRequest, "not an ID"},
		{"unknown inbound", "GET /inbound/tcp/two", "", answer.NotFound, "endpoint b has no inbound tcp/two"},
		{"unknown outbound", "DELETE /outbound/tcp/two", "", answer.NotFound, "endpoint b has no outbound tcp/two"},
		{"unknown path", "GET /nonsense", "", answer.NotFound, "GET /nonsense"},
		{"unknown method", "PATCH /inbound/tcp/web", "", answer.NotFound, "PATCH"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			method, path, _ := strings.Cut(test.request, " ")
			err := b.Call(method, path, test.body, nil)
			if answer.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %s %v; want %s with %q", answer.CodeOf(err), err, test.code, test.text)
			}
			if diff := cmp.Diff(before, b.App.Status()); diff != "" {
				t.Errorf("the tunnels changed (-before +after):\n%s", diff)
			}
		})
	}
	if got, err := os.ReadFile(file); string(got) != "precious" || err != nil {
		t.Errorf("the file in the way is now %q, %v", got, err)
	}
}

func TestEditingAnInboundLeavesRunningFlowsAlone(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	first := appstest.FreeAddress(t)
	a.MustCall(t, "POST", "/inbound/tcp/web", `{"listens":["`+first+`"]}`, nil)
	c := tunneltest.Dial(t, first)
	if _, err := tunneltest.ReadLine(c); err != nil {
		t.Fatal(err)
	}
	second := appstest.FreeAddress(t)
	a.MustCall(t, "POST", "/inbound/tcp/web", fmt.Sprintf(`{"listens":[%q,%q]}`, first, second), nil)
	tunneltest.WantGreeting(t, first, "web")
	tunneltest.WantGreeting(t, second, "web")
	a.MustCall(t, "POST", "/inbound/tcp/web", `{"listens":["`+second+`"]}`, nil)
	tunneltest.WantGreeting(t, second, "web")
	if late, err := net.Dial("tcp", first); err == nil {
		late.Close()
		t.Error("the listen that was taken away is still open")
	}
	c.Write([]byte("still here\n"))
	if line, err := tunneltest.ReadLine(c); line != "still here" || err != nil {
		t.Errorf("the flow from before: %q, %v", line, err)
	}
	a.MustCall(t, "DELETE", "/inbound/tcp/web", nil, nil)
	if line, err := tunneltest.ReadLine(c); err == nil {
		t.Errorf("the flow outlived its inbound: %q", line)
	}
}

func TestAnInboundMayTakeItsOwnPortOverForMoreAddresses(t *testing.T) {
	var n appstest.Net
	a, b := tunneltest.Join(t, &n, "a", "alice"), tunneltest.Join(t, &n, "b", "alice")
	b.Offer(t, "tcp/web", tunneltest.Server(t, "web"))
	address := appstest.FreeAddress(t)
	listen := func(list ...string) error {
		return a.Call("POST", "/inbound/tcp/web", map[string][]string{"listens": list}, nil)
	}
	everywhere, taken := "*:"+appstest.Port(address), tunneltest.Server(t, "other")
	if err := listen(address); err != nil {
		t.Fatal(err)
	}
	if err := listen(everywhere, taken); answer.CodeOf(err) != answer.Conflict {
		t.Errorf("a port in use: %v", err)
	}
	appstest.Eventually(t, "the old listener is back", func() bool { return a.InboundStatus(t, "tcp/web").Listeners[0].Open })
	tunneltest.WantGreeting(t, address, "web")
	for _, l := range []string{everywhere, address} {
		if err := listen(l); err != nil {
			t.Error(err)
		}
		tunneltest.WantGreeting(t, address, "web")
	}
}

func TestListingShowsBothKinds(t *testing.T) {
	var n appstest.Net
	b := tunneltest.Join(t, &n, "b", "alice")
	var s tunnel.Status
	b.MustCall(t, "GET", "/tunnels", nil, &s)
	if diff := cmp.Diff(tunnel.Status{Inbound: []entrance.Status{}, Outbound: []exit.Status{}, Allow: []spec.Allow{}}, s); diff != "" {
		t.Errorf("an endpoint without tunnels (-want +got):\n%s", diff)
	}
	b.Offer(t, "tcp/web", "127.0.0.1:80")
	b.Offer(t, "tcp/db", "[::1]:5432")
	b.Listen(t, "tcp/ssh")
	b.MustCall(t, "GET", "/tunnels", nil, &s)
	var names []string
	for _, in := range s.Inbound {
		names = append(names, "in "+in.Key.String())
	}
	for _, out := range s.Outbound {
		names = append(names, "out "+out.Key.String())
	}
	if diff := cmp.Diff([]string{"in tcp/ssh", "out tcp/db", "out tcp/web"}, names); diff != "" {
		t.Errorf("the listing (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"tunnel/tcp/db", "tunnel/tcp/web"}, b.Self().Offers); diff != "" {
		t.Errorf("what is offered (-want +got):\n%s", diff)
	}
}
