package tabwriter

import (
	"fmt"
	"strings"
	"testing"
)

func TestNothingIsLostButTheColumns(t *testing.T) {
	var b strings.Builder
	w := NewWriter(&b, 1, 8, 2, ' ', 0)
	fmt.Fprint(w, "a\tb\n")
	if err := w.Flush(); err != nil || b.String() != "a\tb\n" {
		t.Errorf("%v, %q", err, b.String())
	}
}
