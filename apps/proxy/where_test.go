package proxy

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/proxy/dns/dnstest"
	"ztm/tunnel/answer"
)

// where asks where a connection would go: "by exit exit; by exit", or "nowhere".
func (e *endpoint) where(t *testing.T, target string) string {
	t.Helper()
	var w Where
	if err := e.call("GET", "/where?"+url.Values{"target": {target}}.Encode(), nil, &w); err != nil {
		t.Fatal(err)
	}
	var steps []string
	for _, s := range w.Steps {
		words := strings.Fields(s.By + " " + s.Pattern)
		for _, x := range s.Exits {
			words = append(words, x.Name)
			if x.Error != "" {
				words = append(words, "("+x.Error+")")
			}
		}
		steps = append(steps, strings.Join(words, " "))
	}
	if len(steps) == 0 {
		return "nowhere: " + w.Reason
	}
	return strings.Join(steps, "; ")
}

func TestWhereSaysWhatAConnectionThenDoes(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "search svc.cluster.local\n")
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{Resolver: names("an.other.net"), Dial: says(t, "in")})
	join(t, &n, "corp", "alice", Options{Resolver: names("a.example.com", "a.b.example.com"), Dial: says(t, "corp")}).
		change(t, Change{AddTargets: []string{"*.example.com"}, AddExclusions: []string{"no.example.com"}})
	join(t, &n, "cluster", "alice", Options{ResolvConf: conf, Resolver: dnstest.Names{"web.svc.cluster.local": "10.1.1.1"}, Dial: says(t, "cluster")}).
		change(t, Change{AddTargets: []string{"*.cluster.local"}})
	bobs := join(t, &n, "bobs", "bob", Options{Resolver: names("a.b.example.com", "c.d.test"), Dial: says(t, "bobs")})
	bobs.change(t, Change{AddTargets: []string{"*.b.example.com", "*.test"}})
	bobs.allow(t, "alice", "*")
	in.change(t, Change{Via: map[string]string{"*.b.example.com": "bobs"}, Direct: []string{"here.example.com"}})
	check := func(target, want, goesTo string) {
		t.Helper()
		if got := in.where(t, target); !strings.HasPrefix(got, want) {
			t.Errorf("where %s: %q, want %q", target, got, want)
		}
		if goesTo == "" {
			return
		}
		if got := goes(t, in, target); !strings.HasPrefix(got, goesTo) {
			t.Errorf("%s goes to %q, want %q", target, got, goesTo)
		}
	}
	check("a.example.com:80", "target corp", "corp ")
	check("a.example.com", "target corp", "")
	check("a.b.example.com:80", "route *.b.example.com bobs", "bobs ")
	check("here.example.com:80", "route here.example.com", "")
	check("web:80", "search cluster", "cluster ")
	check("c.d.test:80", "nowhere: no exit of yours serves c.d.test:80; endpoint bobs of user bob does", "destination_not_found")
	check("no.example.com:80", "nowhere: no.example.com:80 is excluded at endpoint corp", "destination_ip_prohibited")
	check("an.other.net:80", "nowhere: no exit serves an.other.net:80", "destination_not_found")

	open := direct
	in.change(t, Change{Default: &open})
	check("an.other.net:80", "default", "in ")
	check("web:80", "search cluster; default", "cluster ")
	bobs.SetOnline(false)
	check("a.b.example.com:80", "route *.b.example.com bobs (it is offline, or no exit)", "destination_unavailable")
}

func TestWhereRefusesWhatIsNoDestination(t *testing.T) {
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	for _, target := range []string{"", "a b", "0x7f.1", "a:99999", "fe80::1%eth0", "http:///a", "ftp://a.example", strings.Repeat("a", 1000)} {
		if err := in.call("GET", "/where?"+url.Values{"target": {target}}.Encode(), nil, nil); answer.CodeOf(err) != answer.BadRequest {
			t.Errorf("%q: %v", target, err)
		}
	}
	for target, want := range map[string]string{"::1": "::1", "[::1]": "::1", "[::1]:80": "[::1]:80", "A.example": "a.example",
		"http://a.example/b?c": "a.example:80", "https://[::1]/": "[::1]:443", "https://a.example:8443": "a.example:8443"} {
		var w Where
		if err := in.call("GET", "/where?"+url.Values{"target": {target}}.Encode(), nil, &w); err != nil || w.Destination != want {
			t.Errorf("%q is %q: %v", target, w.Destination, err)
		}
	}
}
