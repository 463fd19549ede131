package apps

import (
	"fmt"
	"strconv"
	"strings"
)

// ParseRate reads bytes a second as people write them: "500K", "1.5M", "2G" or a plain number, in
// units of 1024. "off" is zero, which means no limit.
func ParseRate(s string) (int64, error) {
	if s == "off" {
		return 0, nil
	}
	unit, number := 1.0, s
	if i := len(s) - 1; i > 0 {
		if power := strings.IndexByte("KMG", s[i]&^0x20); power >= 0 {
			unit, number = float64(uint64(1024)<<(10*power)), s[:i]
		}
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || !(v*unit >= 1 && v*unit < 1<<50) {
		return 0, fmt.Errorf("%q is not a rate such as 500K or 2M, in bytes a second, or off", s)
	}
	return int64(v * unit), nil
}
