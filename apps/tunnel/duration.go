package tunnel

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// Duration is a span of time that people write as "90s" or "1h30m". Zero means that the default is meant.
type Duration time.Duration

// ParseDuration reads a duration.
func ParseDuration(s string) (Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration such as 90s or 1h30m", s)
	}
	return Duration(d), nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText makes durations strings in JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText wrote, and what people write.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDuration(string(b))
	return err
}

// or returns the duration, or a default in place of zero.
func (d Duration) or(fallback time.Duration) time.Duration {
	return cmp.Or(time.Duration(d), fallback)
}

// maxIdle bounds how long a client that is gone may be remembered.
const maxIdle = Duration(24 * time.Hour)

// validate checks an idle timeout.
func (d Duration) validate(protocol string) error {
	switch {
	case d != 0 && protocol != UDP:
		return errors.New("only udp tunnels have one: a tcp connection ends when one of its ends ends it")
	case d != 0 && d < Duration(time.Second), d > maxIdle:
		return fmt.Errorf("%v is not between 1s and %v", d, maxIdle)
	}
	return nil
}
