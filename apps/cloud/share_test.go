package cloud

import (
	"fmt"
	"testing"

	"ztm/apps/appstest"
	"ztm/apps/cloud/index"
)

func TestAShareThatIsRefusedLeavesNoRuleBehind(t *testing.T) {
	var n appstest.Net
	alice := newPlace(t, &n, "a", "alice")
	alice.publish("docs/x", []byte("x"))
	var groups []string
	for i := range index.MaxGroups + 1 {
		groups = append(groups, fmt.Sprint("group:g", i))
	}
	var users []string
	for i := range 300 {
		users = append(users, fmt.Sprint("u", i))
	}
	for name, who := range map[string][]string{"groups": groups, "users": users, "no name": {"a/b"}} {
		for _, path := range []string{"docs", "empty"} {
			if err := alice.call("POST", "share", ShareChange{Path: path, Add: who}, nil); err == nil {
				t.Errorf("too many, or odd, %s were taken for %s", name, path)
			}
			if r, err := alice.app.readersOf(path + "/later"); err != nil || !r.IsNobody() {
				t.Errorf("%s: what is published in %s later is shared with %s, %v", name, path, r.Text(), err)
			}
		}
	}
	alice.publish("docs/later", []byte("later"))
}
