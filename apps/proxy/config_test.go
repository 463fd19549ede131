package proxy

import (
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/apps/proxy/clients"
	"ztm/tunnel/answer"
)

func TestListenAddresses(t *testing.T) {
	for text, want := range map[string]string{
		"1080": "127.0.0.1:1080", "0.0.0.0:1080": "0.0.0.0:1080", "localhost:1080": "127.0.0.1:1080", "[::]:1080": "[::]:1080",
		"[::ffff:10.0.0.1]:1080": "10.0.0.1:1080", "0": "127.0.0.1:0", "unix:/run/x/../p.sock": "unix:/run/p.sock",
		"": "", ":1080": "", "example.com:1080": "", "70000": "", "1.2.3.4": "", "unix:p.sock": "", "unix:": "", "unix:/" + strings.Repeat("x", 200): "",
	} {
		l, err := parseListen(text)
		if err == nil && l.network == "tcp" && !strings.HasPrefix(l.address, "[") {
			t.Errorf("%q is every IPv6 address, too", text)
		}
		if want == "" && err == nil || want != "" && l.String() != want {
			t.Errorf("%q is %q, %v; want %q", text, l, err, want)
		}
	}
}

func TestAChangeIsMadeAsAWholeOrNotAtAll(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice", Options{})
	before := e.change(t, Change{AddTargets: []string{"*.Example.com."}, AddExclusions: []string{"10.0.0.1/8"}, Trust: []string{"bob"}})
	bad := "sometimes"
	for name, ch := range map[string]Change{
		"a pattern":            {AddTargets: []string{"a.com", "a b"}},
		"a missing target":     {AddTargets: []string{"a.com"}, RemoveTargets: []string{"b.com"}},
		"a missing exclusion":  {AddTargets: []string{"a.com"}, RemoveExclusions: []string{"b.com"}},
		"a missing route":      {AddTargets: []string{"a.com"}, RemoveRoutes: []string{"b.com"}},
		"a missing user":       {AddTargets: []string{"a.com"}, Distrust: []string{"carol"}},
		"an unknown endpoint":  {AddTargets: []string{"a.com"}, Via: map[string]string{"b.com": "nowhere"}},
		"a listen address":     {AddTargets: []string{"a.com"}, SetListens: &[]string{"example.com:80"}},
		"an unknown default":   {AddTargets: []string{"a.com"}, Default: &bad},
		"a DNS address":        {AddTargets: []string{"a.com"}, DNS: &bad},
		"a route's pattern":    {AddTargets: []string{"a.com"}, Direct: []string{"*.*"}},
		"a list without limit": {AddTargets: make([]string, maxListed+1)},
	} {
		if err := e.call("PATCH", "/config", ch, nil); err == nil || answer.CodeOf(err) == answer.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	var after View
	if err := e.call("GET", "/config", nil, &after); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the configuration changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"*.example.com"}, after.Targets); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
}

func TestTheConfigurationOutlivesTheAgent(t *testing.T) {
	var n appstest.Net
	host := n.Join("out", "alice")
	first := &endpoint{Host: host, app: host.New("proxy", New).(*App)}
	want := first.change(t, Change{SetListens: &[]string{"1080"}, AddTargets: []string{"*.example.com"}, Direct: []string{"a.com"}})
	if err := first.call("PUT", "/credentials/me", map[string]string{"password": "secret"}, &want); err != nil {
		t.Fatal(err)
	}
	second := &endpoint{Host: host, app: host.New("proxy", New).(*App)}
	var got View
	if err := second.call("GET", "/config", nil, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !second.app.credentials.Check(t.Context(), "me", "secret") || second.app.credentials.Check(t.Context(), "me", "Secret") {
		t.Error("the password is another one")
	}
	if len(second.app.settings.Load().exit.Targets) != 1 {
		t.Error("the targets are not in force")
	}
}

func TestAStoredConfigurationThatMakesNoSenseServesNothing(t *testing.T) {
	var n appstest.Net
	host := n.Join("out", "alice")
	log := &appstest.Buffer{}
	host.Log = log
	host.New("proxy", func(h apps.Host) apps.App {
		h.State.Save(configKey, Config{Targets: []string{"*"}, Exclusions: []string{"of a later version?"}, Listens: []string{"1080"}})
		return New(h)
	})
	app := host.New("proxy", New).(*App)
	s := app.settings.Load()
	if len(s.exit.Targets)+len(s.listens) > 0 || log.Count(slog.LevelError)+log.Count(slog.LevelWarn) == 0 {
		t.Errorf("in force: %+v; log: %s", s, log)
	}
}

func TestAnExitIsOffered(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "out", "alice", Options{})
	offers := func() []string { return e.Self().Offers }
	e.change(t, Change{AddTargets: []string{"*.example.com"}})
	appstest.Eventually(t, "the offer", func() bool { return cmp.Equal(offers(), []string{"proxy/exit"}) })
	e.change(t, Change{RemoveTargets: []string{"*.example.com"}})
	appstest.Eventually(t, "its end", func() bool { return len(offers()) == 0 })
}

func TestAPasswordIsNeverShownOrStored(t *testing.T) {
	var n appstest.Net
	e := join(t, &n, "in", "alice", Options{})
	var stored json.RawMessage
	if err := e.call("PUT", "/credentials/me", map[string]string{"password": "tops3cret"}, &stored); err != nil {
		t.Fatal(err)
	}
	users, err := e.app.users.Get()
	if err != nil {
		t.Fatal(err)
	}
	kept, _ := json.Marshal(users)
	if s := string(stored) + string(kept) + e.log.String(); strings.Contains(s, "tops3cret") {
		t.Errorf("the password is in %s", s)
	}
	for user, password := range map[string]string{"": "x", "a:b": "x", "me": "", strings.Repeat("x", 256): "x", "you": strings.Repeat("x", 256)} {
		if err := clients.CheckCredential(user, password); err == nil {
			t.Errorf("%.20q with %.20q is accepted", user, password)
		}
	}
}

func TestAUnixSocketIsForThisUserAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.sock")
	in, _ := pair(t, Options{Resolver: names("a.example.com"), Dial: says(t, "out")}, "*.example.com")
	ln, err := net.Listen("unix", path) // left by a process that did not end properly
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	in.change(t, Change{SetListens: &[]string{"unix:" + path}})
	if bound := in.bound(t, false); bound != "unix:"+path {
		t.Errorf("bound to %q", bound)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("\x04\x01\x00\x50\x00\x00\x00\x01\x00a.example.com\x00"))
	b := make([]byte, 100)
	n, _ := c.Read(b)
	if n < 8 || b[1] != granted {
		t.Errorf("answer %x", b[:n])
	}

	write(t, filepath.Join(dir, "file"), "precious")
	in.change(t, Change{SetListens: &[]string{"unix:" + filepath.Join(dir, "file")}})
	appstest.Eventually(t, "a refusal", func() bool {
		st := in.app.listeners.status()
		return len(st) == 1 && !st[0].Open && st[0].Error != ""
	})
	if b, _ := os.ReadFile(filepath.Join(dir, "file")); string(b) != "precious" {
		t.Errorf("the file now has %q", b)
	}
}

func TestAPortThatIsTakenIsShownAndTriedAgain(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	in, _ := pair(t, Options{}, "*.example.com")
	in.change(t, Change{SetListens: &[]string{ln.Addr().String()}})
	status := func() ListenerStatus {
		if st := in.app.listeners.status(); len(st) == 1 {
			return st[0]
		}
		return ListenerStatus{}
	}
	appstest.Eventually(t, "the error", func() bool { return status().Error != "" })
	ln.Close()
	in.app.listeners.wake() // sooner than by itself
	appstest.Eventually(t, "the port", func() bool { return status().Open })
}
