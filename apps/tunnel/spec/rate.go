package spec

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Rate is how many bytes may pass in a second, in one direction. Zero means that there is no limit.
type Rate int64

// minRate keeps a slip of the pen (10 for 10MB/s) from making a tunnel useless, in bytes per
// second.
const minRate = 1000

// maxRate is more than any line carries, in bytes per second. Above 2^53 not every number of bytes
// would be read as it is written.
const maxRate = 1e15

// units are what rates are written in, the largest first. Those of bits are read, never written.
var units = []struct {
	name  string
	bytes float64
}{
	{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"Gbit", 1e9 / 8}, {"Mbit", 1e6 / 8}, {"kbit", 1e3 / 8}, {"KB", 1e3}, {"B", 1},
}

// ParseRate reads a rate: "10MB/s", "512KiB/s", "8Mbit/s", "1500000". The "/s" may be left out; "0"
// means no limit.
func ParseRate(s string) (Rate, error) {
	number, per := strings.TrimSuffix(s, "/s"), 1.0
	for _, u := range units {
		if n, ok := strings.CutSuffix(number, u.name); ok {
			number, per = n, u.bytes
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f*per > maxRate || strings.ContainsAny(number, "xXpP_+iIn") {
		return 0, fmt.Errorf("%q is not a rate such as 10MB/s", s)
	}
	r := Rate(math.Round(f * per))
	if r != 0 && r < minRate {
		return 0, fmt.Errorf("%q is too little: at least %v", s, Rate(minRate))
	}
	return r, nil
}

// String returns the rate as [ParseRate] reads it.
func (r Rate) String() string {
	for _, u := range units[:3] {
		if n := Rate(u.bytes); r >= n && r%(n/1000) == 0 {
			return strconv.FormatFloat(float64(r)/u.bytes, 'f', -1, 64) + u.name + "/s"
		}
	}
	return strconv.FormatInt(int64(r), 10) + "B/s"
}

// MarshalText makes rates strings in JSON.
func (r Rate) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads what MarshalText wrote, and what people write.
func (r *Rate) UnmarshalText(b []byte) (err error) {
	*r, err = ParseRate(string(b))
	return err
}
