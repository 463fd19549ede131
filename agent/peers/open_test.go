package peers

import (
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/suspicion"
)

func TestAFlowWhoseAnswerIsLateHasIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := &counting{}
		a, h, end := pairOf(t, app, "one", "two")
		defer end()
		if _, err := opens(t, a, h.to.Self); err != nil {
			t.Fatal(err)
		}
		letGo := h.halt("one", false) // the request gets through, and the exit refuses another like it
		time.AfterFunc(suspicion.MaxSilence/2, letGo)
		if took, err := opens(t, a, h.to.Self); err != nil || took < suspicion.MaxSilence/2 {
			t.Errorf("after %v: %v", took, err)
		}
		if app.ran() != 2 {
			t.Errorf("of two flows %d ran", app.ran())
		}
	})
}
