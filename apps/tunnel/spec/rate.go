package spec

import (
	"fmt"
	"strconv"

	"ztm/apps"
)

// Rate is how many bytes may pass in a second, in one direction. Zero means that there is no limit.
type Rate int64

// minRate keeps a slip of the pen (10 for 10MB/s) from making a tunnel useless, in bytes per
// second.
const minRate = 1000

// units are what rates are written in, the largest first.
var units = []struct {
	name  string
	bytes float64
}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}}

// ParseRate reads a rate in the form of [apps.ParseRate]. Zero means no limit.
func ParseRate(s string) (Rate, error) {
	n, err := apps.ParseRate(s)
	if err != nil {
		return 0, err
	}
	if n != 0 && n < minRate {
		return 0, fmt.Errorf("%q is too little: at least %v", s, Rate(minRate))
	}
	return Rate(n), nil
}

// String returns the rate as [ParseRate] reads it.
func (r Rate) String() string {
	for _, u := range units {
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
