// Package unixtime has the times of documents. In the code they are numbers, which are compared and
// added up. In JSON they are text as in RFC 3339, which people can read.
//
// A time has one text only. So a document that is read and written again is the same, as a signature
// needs it.
package unixtime

import (
	"fmt"
	"time"
)

// The only form of each.
const (
	seconds = "2006-01-02T15:04:05Z"
	millis  = "2006-01-02T15:04:05.000Z"
)

// The years of which RFC 3339 knows the later ones, and Unix time the earlier ones.
const (
	MaxSeconds = Seconds(253402300799) // the last second of the year 9999
	MaxMillis  = Millis(MaxSeconds)*1000 + 999
)

// Text writes a time as people read it everywhere: like [Seconds], in UTC, so that two devices say the
// same of one moment. No time is "-".
func Text(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(seconds)
}

// Seconds is a time in Unix seconds, from 0 to [MaxSeconds]. Its text is like 2026-11-29T19:30:00Z,
// always in UTC. The zero value stands for no time where a field is said to have that.
type Seconds int64

// Of returns a time in whole seconds.
func Of(t time.Time) Seconds { return Seconds(t.Unix()) }

// Time returns the time in the zone of the system.
func (s Seconds) Time() time.Time { return time.Unix(int64(s), 0) }

// MarshalText writes the text of a time in range.
func (s Seconds) MarshalText() ([]byte, error) {
	return format(s.Time(), seconds, 0 <= s && s <= MaxSeconds)
}

// UnmarshalText reads what [Seconds.MarshalText] writes, and nothing else.
func (s *Seconds) UnmarshalText(text []byte) error {
	t, err := parse(text, seconds)
	*s = Of(t)
	return err
}

// Millis is a time in Unix milliseconds, of the same years. Its text is like
// 2026-11-29T19:30:00.000Z, always in UTC. The zero value stands for no time where a field is said
// to have that.
type Millis int64

// MillisOf returns a time in whole milliseconds.
func MillisOf(t time.Time) Millis { return Millis(t.UnixMilli()) }

// MillisNear returns the time in range that is nearest, as clocks of files may say anything.
func MillisNear(t time.Time) Millis { return max(0, min(MillisOf(t), MaxMillis)) }

// Time returns the time in the zone of the system.
func (m Millis) Time() time.Time { return time.UnixMilli(int64(m)) }

// MarshalText writes the text of a time in range.
func (m Millis) MarshalText() ([]byte, error) {
	return format(m.Time(), millis, 0 <= m && m <= MaxMillis)
}

// UnmarshalText reads what [Millis.MarshalText] writes, and nothing else.
func (m *Millis) UnmarshalText(text []byte) error {
	t, err := parse(text, millis)
	*m = MillisOf(t)
	return err
}

func format(t time.Time, layout string, inRange bool) ([]byte, error) {
	if !inRange {
		return nil, fmt.Errorf("the time %d is not in the years 1970 to 9999", t.Unix())
	}
	return t.UTC().AppendFormat(make([]byte, 0, len(layout)), layout), nil
}

func parse(text []byte, layout string) (time.Time, error) {
	t, err := time.Parse(layout, string(text))
	if err != nil || t.Unix() < 0 || t.Format(layout) != string(text) {
		return time.Unix(0, 0), fmt.Errorf("the time %.40q is not one as %s from 1970 on", text, layout)
	}
	return t, nil
}
