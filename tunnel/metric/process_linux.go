package metric

import (
	"os"
	"strconv"
	"strings"
)

// process returns the resident memory of this process in bytes and its number of open files.
func process() (rss, fds int64, ok bool) {
	b, err := os.ReadFile("/proc/self/statm")
	field := strings.Fields(string(b))
	if err != nil || len(field) < 2 {
		return 0, 0, false
	}
	pages, err := strconv.ParseInt(field[1], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, 0, false
	}
	return pages * int64(os.Getpagesize()), int64(len(open)), true
}
