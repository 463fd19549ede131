package session

import (
	"fmt"
	"testing"
)

// FuzzMemberOf: the name of a process cannot change what is read behind it.
func FuzzMemberOf(f *testing.F) {
	f.Add("sh", 7)
	f.Add(") Z 1 1 1 (", 7)
	f.Add("a b\n) R 1 2 3", 1)
	f.Fuzz(func(t *testing.T, comm string, sid int) {
		memberOf([]byte(comm), sid)
		for state, want := range map[string]bool{"S": true, "Z": false} {
			stat := fmt.Sprintf("%d (%s) %s 1 %d %d 34816 1\n", sid+1, comm, state, sid, sid)
			if got := memberOf([]byte(stat), sid); got != want {
				t.Errorf("memberOf(%q, %d) = %v", stat, sid, got)
			}
		}
	})
}
