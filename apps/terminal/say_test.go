package terminal

import (
	"bytes"
	"testing"

	"ztm/apps/appstest"
)

func TestWhatAnEndpointSaysCannotMoveTheCursor(t *testing.T) {
	var errs bytes.Buffer
	newOpener(&appstest.Console{Err: &errs}).say("%s", "no\x1b[2J\r\nroot# ")
	if got := errs.String(); got != "ztm: no?[2J??root# \n" {
		t.Errorf("printed %q", got)
	}
}
