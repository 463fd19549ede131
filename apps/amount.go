package apps

import "fmt"

// Amount is a number of bytes for people: "79 B", "1.2 MB", in units of 1000.
func Amount(n int64) string {
	const unit = 1000
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n)/unit, 0
	for ; f >= 999.95 && i < len("kMGTPE")-1; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %cB", f, "kMGTPE"[i])
}
