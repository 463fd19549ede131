package apps

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a span of time in what an app is asked and answers: people write it as "90s" or
// "1h30m", programs get it in milliseconds. Zero means that the default is meant. All that is read
// is rounded up to a millisecond.
type Duration time.Duration

// maxDuration is a century. What is longer could be rounded up to a negative span.
const maxDuration = 36500 * 24 * time.Hour

// ParseDuration reads a duration as people write it.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > maxDuration {
		return 0, fmt.Errorf("%q is not a duration such as 90s or 1h30m", s)
	}
	return Duration((d + time.Millisecond - 1).Truncate(time.Millisecond)), nil
}

// ParseDays is [ParseDuration], and reads a number of days such as "30d" as well, of 24 hours each.
func ParseDays(s string) (Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil && n <= uint64(maxDuration/(24*time.Hour)) {
			return Duration(n) * Duration(24*time.Hour), nil
		}
	}
	return ParseDuration(s)
}

// ParseEnd reads when something ends: a span of time from now, a time with its zone, or a day, which ends at
// midnight UTC.
func ParseEnd(s string, now time.Time) (time.Time, error) {
	if d, err := ParseDays(s); err == nil && d > 0 {
		return now.Add(time.Duration(d)), nil
	}
	end, err := time.Parse(time.RFC3339, s)
	if err != nil {
		if end, err = time.Parse(time.DateOnly, s); err == nil {
			end = end.AddDate(0, 0, 1)
		}
	}
	switch {
	case err != nil:
		return end, fmt.Errorf("%q is neither a span of time such as 8h or 30d nor a time such as 2026-12-24T18:00:00Z", s)
	case !end.After(now):
		return end, fmt.Errorf("%s has passed", s)
	}
	return end, nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// Or returns the duration, or a default in place of zero.
func (d Duration) Or(fallback time.Duration) time.Duration { return cmp.Or(time.Duration(d), fallback) }

// MarshalJSON writes a number of milliseconds.
func (d Duration) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(d).Milliseconds())
}

// UnmarshalJSON reads what MarshalJSON wrote, and what people write.
func (d *Duration) UnmarshalJSON(b []byte) (err error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case string:
		*d, err = ParseDuration(v)
		return err
	case float64:
		if v >= 0 && v <= float64(maxDuration/time.Millisecond) {
			*d = Duration(time.Duration(math.Ceil(v)) * time.Millisecond)
			return nil
		}
	}
	return fmt.Errorf("%s is not a duration: want milliseconds, or a text such as \"90s\"", b)
}

// Milliseconds is a measured span of time for a listing in JSON.
func Milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
