package web

import (
	"encoding/json"
	"strings"
	"testing"

	"ztm/agent/api"
	"ztm/agent/policy/file"
	"ztm/tunnel/identity"
)

const someRights = `ztm: policy/1
mode: enforce
users: {alice: {}}
groups: {}
endpoints: {laptop: {id: ` + "k5w2yq7n4hq3r6ab5c2d7e4f3g6hxyza" + `}}
grants:
- {name: ssh, who: [alice], to: [tunnel/tcp/ssh], at: [laptop]}
tests:
- {can: alice, to: tunnel/tcp/ssh, at: laptop}
`

// TestAPolicyIsCheckedAndComparedBeforeItIsApplied goes the way of a page: check, and what comes of it
// exported and checked again.
func TestAPolicyIsCheckedAndComparedBeforeItIsApplied(t *testing.T) {
	p := newBench(t).enter(api.Console{})
	post := func(path string, in, out any) (int, string) {
		t.Helper()
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		status, body := p.send("POST", path, string(b))
		if status == 200 {
			if err := json.Unmarshal([]byte(body), out); err != nil {
				t.Fatal(err)
			}
		}
		return status, body
	}
	var checked policyChecked
	if status, body := post("/policy/check", policyCheck{Now: api.PolicySource{Version: 7}, File: someRights}, &checked); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	gains := file.Right{User: "alice", To: "tunnel/tcp/ssh", At: "laptop"}
	if d := checked.Difference; len(d.Gains) != 1 || d.Gains[0].Right != gains || len(d.Losses) != 0 || checked.Tests != 1 || checked.Next.Version != 7 {
		t.Errorf("%+v", checked)
	}
	if id := checked.Next.Source.Endpoints["laptop"].ID; id != identity.ID("k5w2yq7n4hq3r6ab5c2d7e4f3g6hxyza") {
		t.Errorf("the endpoint is %s", id)
	}
	var exported policyFile
	if status, body := post("/policy/export", checked.Next, &exported); status != 200 || !strings.Contains(exported.File, "base: 7") {
		t.Fatalf("%d %s", status, body)
	}
	var again policyChecked
	if status, body := post("/policy/check", policyCheck{Now: checked.Next, File: exported.File}, &again); status != 200 || len(again.Difference.Gains)+len(again.Difference.Losses) != 0 {
		t.Errorf("what was exported changes something: %d %s", status, body)
	}
	for name, in := range map[string]policyCheck{
		"a test that does not hold": {File: strings.Replace(someRights, "{can:", "{cannot:", 1)}, "no file": {File: "[]"}, "nothing": {},
		"a file of another version": {Now: api.PolicySource{Version: 8}, File: exported.File},
	} {
		if status, body := post("/policy/check", in, &again); status != 400 && status != 409 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if n := p.asked.Load(); n != 0 {
		t.Errorf("%d requests reached the agent", n)
	}
}
