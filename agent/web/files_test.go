package web

import (
	"net/http"
	"testing"

	"ztm/agent/api"
)

func TestAPageOfElsewhereCannotListPublishOrFetchFiles(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	const cloud = "/api/meshes/demo/endpoints/ep/apps/cloud/"
	requests := [][2]string{{"GET", "files?path=/"}, {"GET", "file?path=x"}, {"POST", "publish"}, {"POST", "share"}, {"POST", "downloads"}, {"POST", "mirrors"},
		{"POST", "erase"}, {"PATCH", "config"}}
	for _, r := range requests {
		for _, h := range [][]string{{"Origin", "http://evil.example"}, {"Origin", "null"}, {"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}} {
			if status, _ := p.send(r[0], cloud+r[1], `{"path":"x","share":["*"]}`, h...); status != http.StatusForbidden {
				t.Errorf("%s %s with %v: status %d", r[0], r[1], h, status)
			}
		}
		if status, _ := p.send(r[0], cloud+r[1], "{}", "Host", "evil.example"); status != http.StatusMisdirectedRequest {
			t.Errorf("%s %s by another name: status %d", r[0], r[1], status)
		}
	}
	key := p.key
	p.key = ""
	for _, r := range requests {
		if status, _ := p.send(r[0], cloud+r[1], "{}"); status != http.StatusUnauthorized {
			t.Errorf("%s %s without the key: status %d", r[0], r[1], status)
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests reached the agent", n)
	}
	p.key = key
	p.send("GET", cloud+"files?path=/", "")
	if n := p.asked.Load(); n != 1 {
		t.Errorf("of the console itself %d requests reached the agent", n)
	}
}
