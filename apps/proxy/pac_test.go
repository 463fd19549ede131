package proxy

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ztm/apps/appstest"
)

func TestPAC(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("a JavaScript interpreter is missing: apt-get install nodejs")
	}
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	write(t, conf, "search svc.cluster.local cluster.local\noptions ndots:2\n")
	var n appstest.Net
	in := join(t, &n, "in", "alice", Options{})
	join(t, &n, "out", "alice", Options{ResolvConf: conf}).change(t, Change{
		AddTargets: []string{"*.svc.cluster.local", "10.43.0.0/16", "db.example.com:5432", "192.168.1.1", "*:8443", "fd00::/8"},
	})
	eve := join(t, &n, "eves", "eve", Options{}) // not trusted
	eve.change(t, Change{AddTargets: []string{"*"}})
	eve.allow(t, "*", "*")
	in.change(t, Change{Via: map[string]string{"*.corp.example.com": "eves"}, Direct: []string{"www.corp.example.com", "10.43.1.0/24"}})
	address := in.listen(t)
	script := fetch(t, http.DefaultClient, "http://"+address+"/proxy.pac")

	want := map[string]bool{ // through the proxy?
		"http://svc-a.svc.cluster.local:8080/x": true,
		"http://SVC-A.svc.cluster.local.:80/":   true,
		"http://svc-a.svc/":                     true,
		"http://svc-a/":                         true,
		"http://a.b.c/":                         false,
		"http://svc.cluster.local/":             false,
		"http://github.com/":                    false, // may be short for github.com.svc.cluster.local, but most likely is not
		"http://db/":                            true,
		"http://xsvc.cluster.local.evil.com/":   false,
		"http://10.43.7.7/":                     true,
		"http://10.43.1.7/":                     false,
		"http://10.44.0.1/":                     false,
		"http://192.168.1.1:8080/":              true,
		"http://192.168.1.2/":                   false,
		"http://db.example.com:5432/":           true,
		"http://db.example.com/":                false,
		"https://anything.net:8443/":            true,
		"https://anything.net/":                 false,
		"wss://user:pw@anything.net:8443/":      true,
		"http://[fd00::1]/":                     true,
		"http://a.corp.example.com/":            true,
		"http://www.corp.example.com/":          false,
	}
	urls, _ := json.Marshal(want)
	cmd := exec.Command(node, "-e", script+`
		const out = {};
		for (const u of Object.keys(`+string(urls)+`)) out[u] = FindProxyForURL(u, new URL(u).hostname.replace(/^\[|\]$/g, ""));
		console.log(JSON.stringify(out));`)
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, script)
	}
	got := map[string]string{}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	for u, through := range want {
		w := "DIRECT"
		if through {
			w = "PROXY " + address
		}
		if got[u] != w {
			t.Errorf("%s: %q, want %q", u, got[u], w)
		}
	}
}

func TestWhoGetsThePAC(t *testing.T) {
	in, _ := pair(t, Options{}, "*.example.com")
	address := in.listen(t)
	for host, want := range map[string]string{
		"127.0.0.1": "200", "localhost": "200", "router:1080": "200", "[::1]:1080": "200", "192.168.1.1:1080": "200",
		"": "421", "evil.example.com": "421", "evil.example.com:1080": "421", "localhost.evil.com": "421", "a b": "400", "x\"y": "400", "router:99999": "421",
	} {
		answer := exchange(t, address, "GET /proxy.pac HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+want) {
			t.Errorf("host %q: want %s, got\n%.80s", host, want, answer)
		}
		if want == "200" && !strings.Contains(answer, "application/x-ns-proxy-autoconfig") {
			t.Errorf("host %q: %.300s", host, answer)
		}
	}
	if err := in.call("PUT", "/credentials/me", map[string]string{"password": "secret"}, nil); err != nil {
		t.Fatal(err)
	}
	if answer := exchange(t, address, "GET /proxy.pac HTTP/1.1\r\nHost: localhost\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 200") {
		t.Errorf("from this device, with credentials: %.80s", answer)
	}
}
