package answer

import (
	"io"
	"strings"
	"testing"
)

func TestAnAnswerIsKeptUpToItsLimit(t *testing.T) {
	k := NewKept(10)
	Fail(k, nil, Errorf(NotFound, "x"))
	if k.Status != 404 || k.Body.Len() != 0 || k.Header().Get("Content-Type") == "" {
		t.Errorf("beyond the limit: %d, %q", k.Status, k.Body.String())
	}
	for _, most := range []int{0, 10} {
		k := NewKept(most)
		if _, err := io.WriteString(k, strings.Repeat("x", 10)); err != nil || k.Status != 200 || k.Body.Len() != 10 {
			t.Errorf("limit %d: %v, %d, %q", most, err, k.Status, k.Body.String())
		}
	}
}
