package away

import (
	"testing"
	"time"

	"ztm/tunnel/identity"
)

func TestAnEndpointIsDueWhenItsPauseIsOver(t *testing.T) {
	l, now := leavers{}, time.Now()
	id := identity.ID("pod")
	l.add(id, now)
	if got := l.due(now.Add(time.Minute), time.Hour); len(got) != 0 {
		t.Errorf("within the pause %q go", got)
	}
	if got := l.due(now.Add(time.Hour), time.Hour); len(got) != 1 || got[0] != id {
		t.Errorf("after it %q go", got)
	}
	if got := l.due(now.Add(2*time.Hour), time.Hour); len(got) != 0 {
		t.Errorf("twice: %q", got)
	}
}
