package peers

import (
	"testing"
	"testing/synctest"
	"time"

	"ztm/agent/audit"
)

func TestAFlowThatGoesOnIsAuditedAfterAMinuteAndEachHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() { <-time.After(time.Minute) }() // connections that are closed wait for their peers
		a, h, end := pairOf(t, &counting{}, "one", "two")
		defer end()
		lines := make(chan audit.Line, 100)
		h.to.Audit = func(l audit.Line) { lines <- l }
		go h.to.Run(h.to.Life) // ends with it
		c, err := a.Open(t.Context(), Opening{To: h.to.Self, Path: "count/x"})
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte("hello"))
		began := time.Now()
		<-time.After(150 * time.Minute)
		c.Close()
		for i, want := range []struct {
			event audit.Event
			after time.Duration
		}{{audit.Running, time.Minute}, {audit.Running, 61 * time.Minute}, {audit.Running, 121 * time.Minute}, {audit.Flow, 150 * time.Minute}} {
			l := <-lines
			after := time.Duration(l.Millis) * time.Millisecond
			if l.Event != want.event || l.User != "ann" || l.In != 5 || after < want.after || after > want.after+2*reapEvery {
				t.Errorf("line %d after %v: %+v", i, time.Since(began), l)
			}
		}
		select {
		case l := <-lines:
			t.Errorf("one more: %+v", l)
		default:
		}
	})
}
