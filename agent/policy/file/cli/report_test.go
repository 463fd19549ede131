package cli

import (
	"slices"
	"testing"

	"ztm/agent/audit"
)

func TestAFlowIsCountedOnceHoweverManyLinesItHas(t *testing.T) {
	line := func(event, of audit.Event, count int) audit.Line {
		return audit.Line{Event: event, Of: of, Count: count, Reason: audit.WouldRefuse, User: "bob", App: "terminal", Target: "shell"}
	}
	got := refusals([]audit.Line{
		line(audit.Opened, "", 0), line(audit.Merged, audit.Opened, 4), line(audit.Running, "", 0), line(audit.Merged, audit.Running, 4),
		line(audit.Flow, "", 0), line(audit.Merged, audit.Flow, 4), {Event: audit.Flow, User: "bob", App: "terminal", Target: "shell"},
	})
	if want := []refusal{{User: "bob", App: "terminal", Target: "shell", Count: 5}}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
