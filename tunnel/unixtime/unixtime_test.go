package unixtime

import (
	"encoding/json"
	"testing"
	"time"
)

type document struct {
	Issued Seconds `json:"issued"`
	Until  Seconds `json:"until,omitempty"`
	Time   Millis  `json:"time,omitempty"`
}

func TestATimeIsTextInJSONAndOneOfZeroCanBeLeftOut(t *testing.T) {
	at := time.Date(2026, 11, 29, 20, 30, 0, 7_999_999, time.FixedZone("", 3600))
	for want, d := range map[string]document{
		`{"issued":"2026-11-29T19:30:00Z","until":"9999-12-31T23:59:59Z","time":"2026-11-29T19:30:00.007Z"}`: {Of(at), MaxSeconds, MillisOf(at)},
		`{"issued":"1970-01-01T00:00:00Z"}`: {},
	} {
		b, err := json.Marshal(d)
		if err != nil || string(b) != want {
			t.Errorf("%s, %v\nwant %s", b, err, want)
		}
		var again document
		if err := json.Unmarshal([]byte(want), &again); err != nil || again != d {
			t.Errorf("%s gives %+v, %v", want, again, err)
		}
	}
}

func TestATimeHasOneTextOnly(t *testing.T) {
	for _, text := range []string{
		`"2026-11-29T20:30:00+01:00"`, `"2026-11-29T19:30:00.5Z"`, `"2026-11-29T19:30:00.000Z"`, `"2026-11-29t19:30:00z"`, `"2026-11-29 19:30:00Z"`,
		`"2026-11-31T19:30:00Z"`, `"2026-11-29T24:00:00Z"`, `"1969-12-31T23:59:59Z"`, `"10000-01-01T00:00:00Z"`, `""`, `1795980600`, `"1795980600"`,
	} {
		var s Seconds
		if err := json.Unmarshal([]byte(text), &s); err == nil {
			t.Errorf("%s is read as %d", text, s)
		}
	}
	for _, text := range []string{`"2026-11-29T19:30:00Z"`, `"2026-11-29T19:30:00.0000Z"`, `"2026-11-29T19:30:00.00Z"`, `"2026-11-29T19:30:00,000Z"`, `1795980600000`} {
		var m Millis
		if err := json.Unmarshal([]byte(text), &m); err == nil {
			t.Errorf("%s is read as %d", text, m)
		}
	}
}

func TestATimeOutOfRangeIsNotWritten(t *testing.T) {
	for _, d := range []document{{Issued: -1}, {Issued: MaxSeconds + 1}, {Issued: 1 << 62}, {Time: -1}, {Time: MaxMillis + 1}} {
		if b, err := json.Marshal(d); err == nil {
			t.Errorf("%+v is written as %s", d, b)
		}
	}
}

func TestATimeOutOfRangeIsNearToAnEnd(t *testing.T) {
	for at, want := range map[time.Time]Millis{
		time.UnixMilli(-1): 0, time.UnixMilli(0): 0, time.UnixMilli(5): 5, MaxMillis.Time(): MaxMillis, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC): MaxMillis,
	} {
		if got := MillisNear(at); got != want {
			t.Errorf("%v: %d, want %d", at, got, want)
		}
	}
}

// FuzzText has a time that is read be written as the same text.
func FuzzText(f *testing.F) {
	f.Add("2026-11-29T19:30:00Z")
	f.Add("2026-11-29T19:30:00.123Z")
	f.Fuzz(func(t *testing.T, text string) {
		var s Seconds
		if s.UnmarshalText([]byte(text)) == nil {
			if again, err := s.MarshalText(); err != nil || string(again) != text {
				t.Errorf("%q is written as %q, %v", text, again, err)
			}
		}
		var m Millis
		if m.UnmarshalText([]byte(text)) == nil {
			if again, err := m.MarshalText(); err != nil || string(again) != text {
				t.Errorf("%q is written as %q, %v", text, again, err)
			}
		}
	})
}

func TestPeopleReadATimeInOneZone(t *testing.T) {
	at := time.Date(2026, 11, 30, 8, 5, 6, 7, time.FixedZone("CST", 8*3600))
	if got := Text(at); got != "2026-11-30T00:05:06Z" {
		t.Error(got)
	}
	if got := Text(time.Time{}); got != "-" {
		t.Error(got)
	}
}
