package apps

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxSize is more than any disk has and any line carries, in bytes and in bytes a second. Above 2^53
// not every number of bytes would be read as it is written.
const maxSize = 1e15

// ParseSize reads a number of bytes as people write them: "500M", "1.5GB", "512KiB" or a plain number.
// Units are those of 1000, as [Amount] writes them, unless they have an i. "off" is zero.
func ParseSize(s string) (int64, error) {
	number, unit := split(s)
	if n, ok := product(number, bytesOf(unit)); ok && n > 0 || s == "off" {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a size such as 500M or 10G, or off", s)
}

// ParseRate reads bytes a second in the form of [ParseSize], or bits: "10MB/s", "500K", "8Mbit/s". The
// "/s" may be left out. "off" and zero mean that there is no limit.
func ParseRate(s string) (int64, error) {
	number, unit := split(strings.TrimSuffix(s, "/s"))
	per := bytesOf(unit)
	if letter, bits := strings.CutSuffix(unit, "bit"); bits && !strings.HasSuffix(letter, "B") {
		per = bytesOf(letter) / 8
	}
	if n, ok := product(number, per); ok && (n > 0 || strings.Trim(number, "0.") == "") || s == "off" {
		return n, nil
	}
	return 0, fmt.Errorf("%q is not a rate such as 500K, 10MB/s or 8Mbit/s, or off", s)
}

func split(s string) (number, unit string) {
	unit = strings.TrimLeft(s, "0123456789.")
	return s[:len(s)-len(unit)], unit
}

// bytesOf returns the bytes of a unit, and 0 of what is none. A small b is none: it is a bit to some.
func bytesOf(unit string) float64 {
	letter, base := strings.TrimSuffix(unit, "B"), 1000.0
	if text, ok := strings.CutSuffix(unit, "iB"); ok {
		letter, base = text, 1024
	}
	switch power := strings.IndexAny("KMGT", strings.ToUpper(letter)); {
	case letter == "" && base == 1000:
		return 1
	case len(letter) == 1 && power >= 0:
		return math.Pow(base, float64(power+1))
	}
	return 0
}

func product(number string, per float64) (n int64, ok bool) {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || per == 0 || f*per > maxSize {
		return 0, false
	}
	return int64(math.Round(f * per)), true
}
