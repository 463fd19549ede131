package apps

import (
	"math"
	"testing"
)

func TestAmountsAreShortAndHaveAUnit(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 1_234_567: "1.2 MB",
		math.MaxInt64: "9.2 EB"} {
		if got := Amount(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
