package apps

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes as people write them: "500K", "1.5M", "2G" or a plain number, in
// units of 1024. "off" is zero.
func ParseSize(s string) (int64, error) {
	n, ok := bytesOf(s)
	if !ok {
		return 0, fmt.Errorf("%q is not a size such as 500M or 10G, or off", s)
	}
	return n, nil
}

// ParseRate reads bytes a second in the form of [ParseSize]. Zero means no limit.
func ParseRate(s string) (int64, error) {
	n, ok := bytesOf(s)
	if !ok {
		return 0, fmt.Errorf("%q is not a rate such as 500K or 2M, in bytes a second, or off", s)
	}
	return n, nil
}

func bytesOf(s string) (n int64, ok bool) {
	if s == "off" {
		return 0, true
	}
	unit, number := 1.0, s
	if i := len(s) - 1; i > 0 {
		if power := strings.IndexByte("KMG", s[i]&^0x20); power >= 0 {
			unit, number = float64(uint64(1024)<<(10*power)), s[:i]
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	return int64(v * unit), err == nil && v*unit >= 1 && v*unit < 1<<50
}
