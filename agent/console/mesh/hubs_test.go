package mesh_test

import (
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/api/apitest"
)

func TestHubsThatShareANameAreToldApart(t *testing.T) {
	const shared = "mesh.example.com:8888"
	hubs := []api.Hub{
		{ID: apitest.HubID, Address: shared, Names: []string{"hub1.example.com:8888", shared}, Status: api.Attached},
		{ID: apitest.NasID, Address: "hub2.example.com:8888", Names: []string{"hub2.example.com:8888", shared}, Status: api.Attached},
	}
	answers := apitest.Demo()
	for path := range answers {
		if strings.HasPrefix(path, "GET ") && strings.HasSuffix(path, "/hubs") {
			answers[path] = hubs
		}
	}
	a := apitest.New(t, answers)
	if out := ztm(t, a, "", "get", "hub").stdout; !strings.Contains(out, "hub1.example.com:8888 ") || strings.Contains(out, shared) {
		t.Errorf("a hub is called by a name that two have:\n%s", out)
	}
	for _, name := range []string{"hub1.example.com:8888", "hub1.example.com", string(apitest.HubID)} {
		if got := ztm(t, a, "", "describe", "hub", name); !strings.Contains(got.stdout, string(apitest.HubID)) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, args := range [][]string{{"describe", "hub", shared}, {"evict", "hub", shared}, {"evict", "hub", "mesh.example.com"}} {
		if got := ztm(t, a, "", args...); got.status == 0 || !strings.Contains(got.stderr, string(apitest.NasID)) {
			t.Errorf("%v: %+v", args, got)
		}
	}
	if changes := a.Changes(); len(changes) > 0 {
		t.Errorf("a hub was evicted by a name that two have: %v", changes)
	}
}
