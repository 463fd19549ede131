package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/apps/reach"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// says is an Options.Dial for which every address is a target that says the name of the exit and the address.
func says(t testing.TB, name string) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		near, far, err := appstest.Pair("tcp")
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(far, "%s %s", name, address)
		return near, far.Close()
	}
}

// goes returns what the target says to a client that connects through the proxy, or how it failed.
func goes(t testing.TB, e *endpoint, hostport string) string {
	t.Helper()
	d, err := reach.ParseDest(hostport)
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.app.router.Open(t.Context(), "tcp", d)
	if err != nil {
		return string(answer.CodeOf(err))
	}
	defer c.Close()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%s: %v", hostport, err)
	}
	return string(b)
}

// names is a resolver that knows these names, all at one address.
func names(list ...string) dnstest.Names {
	f := dnstest.Names{}
	for _, n := range list {
		f[n] = "10.1.1.1"
	}
	return f
}

func TestTheMostSpecificTargetWins(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{Dial: says(t, "in")})
	for name, targets := range map[string][]string{
		"world":  {"*", "0.0.0.0/0"},
		"corp":   {"*.corp.example.com", "10.0.0.0/8"},
		"lab":    {"*.lab.corp.example.com", "10.7.0.0/16", "git.corp.example.com:22"},
		"single": {"db.lab.corp.example.com", "10.7.7.7"},
	} {
		join(t, &n, name, "alice", Options{
			Resolver: names("www.example.com", "a.corp.example.com", "a.lab.corp.example.com", "db.lab.corp.example.com", "git.corp.example.com"),
			Dial:     says(t, name),
		}).change(t, Change{AddTargets: targets})
	}
	for hostport, want := range map[string]string{
		"www.example.com:80":           "world 10.1.1.1:80",
		"8.8.8.8:53":                   "world 8.8.8.8:53",
		"a.corp.example.com:80":        "corp 10.1.1.1:80",
		"10.1.2.3:80":                  "corp 10.1.2.3:80",
		"A.LAB.corp.example.com.:80":   "lab 10.1.1.1:80",
		"10.7.1.1:80":                  "lab 10.7.1.1:80",
		"[::ffff:10.7.1.1]:80":         "lab 10.7.1.1:80",
		"db.lab.corp.example.com:5432": "single 10.1.1.1:5432",
		"10.7.7.7:1":                   "single 10.7.7.7:1",
		"git.corp.example.com:22":      "lab 10.1.1.1:22",
		"git.corp.example.com:80":      "corp 10.1.1.1:80",
		"[2001:db8::1]:80":             "world [2001:db8::1]:80",
	} {
		if got := goes(t, in, hostport); got != want {
			t.Errorf("%s goes to %q, want %q", hostport, got, want)
		}
	}
}

func TestRoutesComeBeforeTheChoice(t *testing.T) {
	var n appstest.Net
	options := func(name string) Options {
		return Options{Resolver: names("a.example.com", "b.a.example.com", "other.net", "direct.example.com"), Dial: says(t, name)}
	}
	in := join(t, &n, "in", "alice", options("in"))
	mine := join(t, &n, "mine", "alice", options("mine"))
	mine.change(t, Change{AddTargets: []string{"*.example.com", "b.a.example.com"}})
	bobs := join(t, &n, "bobs", "bob", options("bobs"))
	bobs.change(t, Change{AddTargets: []string{"*"}})
	bobs.allow(t, "alice", "*.a.example.com")
	in.change(t, Change{Via: map[string]string{"*.A.example.com": "bobs"}, Direct: []string{"direct.example.com"}})
	check := func(hostport, want string) {
		t.Helper()
		if got := goes(t, in, hostport); got != want {
			t.Errorf("%s goes to %q, want %q", hostport, got, want)
		}
	}
	check("a.example.com:80", "mine 10.1.1.1:80")
	check("b.a.example.com:80", "bobs 10.1.1.1:80") // although the target of mine is more specific
	check("direct.example.com:80", "in 10.1.1.1:80")
	check("other.net:80", string(answer.NotFound))

	bobs.SetOnline(false)
	check("b.a.example.com:80", string(answer.Unavailable)) // not to another exit than the one that was named
	bobs.SetOnline(true)
	in.change(t, Change{RemoveRoutes: []string{"*.a.example.com"}})
	check("b.a.example.com:80", "mine 10.1.1.1:80")

	open := direct
	in.change(t, Change{Default: &open})
	check("other.net:80", "in 10.1.1.1:80")
	check("a.example.com:80", "mine 10.1.1.1:80")
}

func TestExitsOfOthersAreNotChosenUnlessTheirUserIsTrusted(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	bobs := join(t, &n, "bobs", "bob", Options{Resolver: names("a.example.com"), Dial: says(t, "bobs")})
	bobs.change(t, Change{AddTargets: []string{"*.example.com"}})
	bobs.allow(t, "alice", "*")
	d, _ := reach.ParseDest("a.example.com:80")
	_, err := in.app.router.Open(t.Context(), "tcp", d)
	if answer.CodeOf(err) != answer.NotFound || !strings.Contains(fmt.Sprint(err), "--add-trust bob") {
		t.Errorf("%v; want a hint at bob's exit", err)
	}
	in.change(t, Change{Trust: []string{"bob"}})
	if got := goes(t, in, "a.example.com:80"); got != "bobs 10.1.1.1:80" {
		t.Errorf("goes to %q", got)
	}
	in.change(t, Change{Distrust: []string{"bob"}, Trust: []string{"*"}})
	if got := goes(t, in, "a.example.com:80"); got != "bobs 10.1.1.1:80" {
		t.Errorf("goes to %q", got)
	}
}

func TestShortNames(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "search ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n")
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	join(t, &n, "cluster", "alice", Options{
		ResolvConf: conf,
		Resolver:   dnstest.Names{"svc-a.svc.cluster.local": "10.43.0.1", "svc-b.ns.svc.cluster.local": "10.43.0.2", "svc-c.cluster.local": "10.43.0.3", "hidden.svc.cluster.local": "10.43.0.4"},
		Dial:       says(t, "cluster"),
	}).change(t, Change{AddTargets: []string{"*.svc.cluster.local"}, AddExclusions: []string{"hidden.svc.cluster.local"}})
	for hostport, want := range map[string]string{
		"svc-a.svc.cluster.local:8080": "cluster 10.43.0.1:8080",
		"svc-a.svc:8080":               "cluster 10.43.0.1:8080",
		"SVC-A.svc:8080":               "cluster 10.43.0.1:8080",
		"svc-a:8080":                   "cluster 10.43.0.1:8080",
		"svc-b:8080":                   "cluster 10.43.0.2:8080",
		"svc-b.ns:8080":                "cluster 10.43.0.2:8080",
		"svc-a.svc.:8080":              string(answer.NotFound),   // is full: there is no such target
		"svc-c:8080":                   string(answer.DNS),        // would be a target, but is not there
		"svc-c.cluster.local:8080":     string(answer.NotFound),   // is not below svc.cluster.local
		"hidden.svc:8080":              string(answer.Prohibited), // whatever it is called
		"svc-b.ns.svc:8080":            "cluster 10.43.0.2:8080",
		"www.example.com:80":           string(answer.NotFound), // the cluster is not even asked
		"example.com:80":               string(answer.DNS),      // the cluster is asked, and does not know it
	} {
		if got := goes(t, in, hostport); got != want {
			t.Errorf("%s goes to %q, want %q", hostport, got, want)
		}
	}
	// A short name may mean something in several clusters: the ones that do not know it pass it on.
	for _, name := range []string{"aaa", "zzz"} {
		write(t, conf+name, "search "+name+".svc.cluster.local\n")
		other := join(t, &n, name, "alice", Options{ResolvConf: conf + name, Resolver: names("only-" + name + "." + name + ".svc.cluster.local"), Dial: says(t, name)})
		other.change(t, Change{AddTargets: []string{"*." + name + ".svc.cluster.local"}})
	}
	for hostport, want := range map[string]string{"only-aaa:80": "aaa 10.1.1.1:80", "only-zzz:80": "zzz 10.1.1.1:80", "svc-b:8080": "cluster 10.43.0.2:8080"} {
		if got := goes(t, in, hostport); got != want {
			t.Errorf("%s goes to %q, want %q", hostport, got, want)
		}
	}
	// With an exit to the world, names that the cluster does not know go on; names that it knows do not.
	join(t, &n, "world", "alice", Options{Resolver: names("www.example.com", "example.com", "svc-c", "svc-a.svc", "hidden.svc"), Dial: says(t, "world")}).change(t, Change{AddTargets: []string{"*"}})
	for hostport, want := range map[string]string{
		"svc-a.svc:8080":      "cluster 10.43.0.1:8080",
		"svc-a.svc.:8080":     "world 10.1.1.1:8080",
		"svc-c:8080":          "world 10.1.1.1:8080",
		"hidden.svc:8080":     string(answer.Prohibited),
		"www.example.com:443": "world 10.1.1.1:443",
		"example.com:443":     "world 10.1.1.1:443",
	} {
		if got := goes(t, in, hostport); got != want {
			t.Errorf("with an exit to the world, %s goes to %q, want %q", hostport, got, want)
		}
	}
}

func TestAnotherExitIsTriedWhenOneCannotServe(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	options := func(name string) Options {
		return Options{Resolver: names("a.example.com"), Dial: says(t, name)}
	}
	one, two := join(t, &n, "one", "alice", options("one")), join(t, &n, "two", "alice", options("two"))
	for _, e := range []*endpoint{one, two} {
		e.change(t, Change{AddTargets: []string{"*.example.com"}})
	}
	first := strings.Fields(goes(t, in, "a.example.com:80"))[0]
	at, other := one, "two"
	if first == "two" {
		at, other = two, "one"
	}
	// What it offered a moment ago, it does not serve now.
	at.change(t, Change{RemoveTargets: []string{"*.example.com"}})
	if got := goes(t, in, "a.example.com:80"); got != other+" 10.1.1.1:80" {
		t.Errorf("goes to %q, want %s", got, other)
	}
	at.change(t, Change{AddTargets: []string{"*.example.com"}})
	at.SetOnline(false)
	if got := goes(t, in, "a.example.com:80"); got != other+" 10.1.1.1:80" {
		t.Errorf("goes to %q, want %s", got, other)
	}
}

func TestANewTargetIsSeenAtOnceByWhoWouldBeRefused(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	out := join(t, &n, "out", "alice", Options{Dial: says(t, "out")})
	if got := goes(t, in, "10.0.0.1:80"); got != string(answer.NotFound) {
		t.Errorf("goes to %q", got)
	}
	out.change(t, Change{AddTargets: []string{"10.0.0.1"}})
	appstest.Eventually(t, "the first target", func() bool { return goes(t, in, "10.0.0.1:80") == "out 10.0.0.1:80" })
	out.change(t, Change{AddTargets: []string{"10.0.0.2"}})
	appstest.Eventually(t, "the second target", func() bool { return goes(t, in, "10.0.0.2:80") == "out 10.0.0.2:80" })
}

// silentMesh is a mesh in which one endpoint never answers.
type silentMesh struct {
	apps.Mesh
	silent identity.ID
	asked  atomic.Int64
}

func (m *silentMesh) Open(ctx context.Context, to identity.ID, path string, q url.Values) (net.Conn, error) {
	if to == m.silent {
		m.asked.Add(1)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return m.Mesh.Open(ctx, to, path, q)
}

func TestASilentExitIsWaitedForOnce(t *testing.T) {
	appstest.Long(t)
	var n appstest.Net
	join(t, &n, "good", "alice", Options{Resolver: names("a.example.com"), Dial: says(t, "good")}).change(t, Change{AddTargets: []string{"*.example.com"}})
	silent := join(t, &n, "silent", "alice", Options{})
	silent.change(t, Change{AddTargets: []string{"*.other.com"}})
	host := n.Join("in", "alice")
	mesh := &silentMesh{Mesh: host, silent: silent.Self().ID}
	app := host.New("proxy", func(h apps.Host) apps.App {
		h.Mesh = mesh
		return New(h)
	}).(*App)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); app.Run(ctx) }()
	defer func() { cancel(); <-done }()
	in := &endpoint{Host: host, app: app}
	if got := goes(t, in, "a.example.com:80"); got != "good 10.1.1.1:80" { // after the timeout
		t.Errorf("goes to %q", got)
	}
	began, before := time.Now(), mesh.asked.Load()
	for range 100 {
		start := time.Now()
		if got := goes(t, in, "a.example.com:80"); got != "good 10.1.1.1:80" {
			t.Errorf("goes to %q", got)
		}
		if took := time.Since(start); took >= 5*time.Second {
			t.Errorf("a connection waited for the silent exit: %v", took)
		}
	}
	if asked, most := mesh.asked.Load()-before, 1+int64(time.Since(began)/time.Second); asked > most {
		t.Errorf("the silent exit was asked %d times, want %d at most", asked, most)
	}
}

func TestThisEndpointCanBeItsOwnExit(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "only", "alice", Options{Resolver: names("a.example.com"), Dial: says(t, "only")})
	e.change(t, Change{AddTargets: []string{"*.example.com"}, Via: map[string]string{"10.0.0.0/8": "."}})
	e.SetOnline(false) // no hub is needed for that
	if got := goes(t, e, "a.example.com:80"); got != "only 10.1.1.1:80" {
		t.Errorf("goes to %q", got)
	}
	if got := goes(t, e, "10.0.0.1:80"); got != string(answer.NotFound) {
		t.Errorf("what is no target here goes to %q", got)
	}
}

func TestAccessThatIsTakenAwayEndsConnections(t *testing.T) {
	var n appstest.Net
	echoing := echo(t)
	out := join(t, &n, "out", "alice", Options{
		Resolver: names("a.example.com"), Dial: dialTo(map[string]string{"10.1.1.1:80": echoing, "10.1.1.2:80": echoing}),
	})
	bob, carol := join(t, &n, "bobs", "bob", Options{}), join(t, &n, "carols", "carol", Options{})
	out.change(t, Change{AddTargets: []string{"*.example.com", "10.0.0.0/8"}})
	out.allow(t, "bob", "*")
	out.allow(t, "carol", "*")
	open := func(e *endpoint, target string) net.Conn {
		t.Helper()
		c, err := e.Open(t.Context(), out.Self().ID, "proxy/tcp", url.Values{"target": {target}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		assertEchoes(t, c)
		return c
	}
	byName, byAddress, hers := open(bob, "a.example.com:80"), open(bob, "10.1.1.2:80"), open(carol, "a.example.com:80")

	out.change(t, Change{AddExclusions: []string{"10.1.1.1"}})
	assertCut(t, "bob's connection to a name at an excluded address", byName)
	assertCut(t, "carol's, too", hers)
	assertEchoes(t, byAddress)

	out.change(t, Change{RemoveExclusions: []string{"10.1.1.1"}})
	byName, hers = open(bob, "a.example.com:80"), open(carol, "a.example.com:80")
	if err := out.call("DELETE", "/rules/0", nil, nil); err != nil {
		t.Fatal(err)
	}
	assertCut(t, "bob's connection without the rule", byName)
	assertCut(t, "bob's other connection", byAddress)
	assertEchoes(t, hers)
	if _, err := bob.Open(t.Context(), out.Self().ID, "proxy/tcp", url.Values{"target": {"a.example.com:80"}}); answer.CodeOf(err) != answer.Denied {
		t.Errorf("bob without the rule: %v", err)
	}

	out.change(t, Change{RemoveTargets: []string{"*.example.com", "10.0.0.0/8"}})
	assertCut(t, "carol's connection to what is no target", hers)
}

func TestWhatPeersMayAsk(t *testing.T) {
	var n appstest.Net
	out := join(t, &n, "out", "alice", Options{Resolver: names("a.example.com")})
	out.change(t, Change{AddTargets: []string{"*.example.com"}})
	mine, eves := join(t, &n, "mine", "alice", Options{}), join(t, &n, "eves", "eve", Options{})
	for _, tt := range []struct {
		name  string
		who   *endpoint
		path  string
		query url.Values
		want  answer.Code
	}{
		{"no target", mine, "tcp", nil, answer.BadRequest},
		{"a target without a port", mine, "tcp", url.Values{"target": {"a.example.com"}}, answer.BadRequest},
		{"port 0", mine, "tcp", url.Values{"target": {"a.example.com:0"}}, answer.BadRequest},
		{"a user that the query names", eves, "tcp", url.Values{"target": {"a.example.com:80"}, "user": {"alice"}}, answer.Denied},
		{"another path", mine, "shell", nil, answer.NotFound},
		{"no path", mine, "", nil, answer.NotFound},
		{"targets of nobody's business", eves, "targets", nil, answer.Denied},
		{"a name of nobody's business", eves, "resolve", url.Values{"name": {"a.example.com"}, "type": {"A"}}, answer.Denied},
		{"a type that is not told", mine, "resolve", url.Values{"name": {"a.example.com"}, "type": {"TXT"}}, answer.BadRequest},
		{"a name that is not served", mine, "resolve", url.Values{"name": {"a.example.net"}, "type": {"A"}}, answer.NotFound},
		{"an address as a name", mine, "resolve", url.Values{"name": {"10.0.0.1"}, "type": {"A"}}, answer.BadRequest},
	} {
		_, err := tt.who.Open(t.Context(), out.Self().ID, "proxy/"+tt.path, tt.query)
		if got := answer.CodeOf(err); got != tt.want {
			t.Errorf("%s: %q (%v), want %q", tt.name, got, err, tt.want)
		}
	}
}
