package hub

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/identity"
)

func TestAnEndpointIsAbandonedAfterAMinuteWithoutAControlSession(t *testing.T) {
	set := func(ids ...identity.ID) map[identity.ID]struct{} {
		m := map[identity.ID]struct{}{}
		for _, id := range ids {
			m[id] = struct{}{}
		}
		return m
	}
	a, start := absences{}, time.Unix(1000, 0)
	steps := []struct {
		after        time.Duration
		absent, want map[identity.ID]struct{}
	}{
		{0, set("a", "b"), set()},
		{30 * time.Second, set("a"), set()}, // b is back
		{59 * time.Second, set("a", "b"), set()},
		{60 * time.Second, set("a", "b"), set("a")},
		{118 * time.Second, set("b"), set()},
		{119 * time.Second, set("b"), set("b")},
	}
	for _, s := range steps {
		if diff := cmp.Diff(s.want, a.note(start.Add(s.after), s.absent)); diff != "" {
			t.Errorf("after %v (-want +got):\n%s", s.after, diff)
		}
	}
}
