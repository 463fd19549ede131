package apps

import (
	"encoding/json"
	"testing"
	"time"
)

func TestADurationIsMillisecondsForProgramsAndTextForPeople(t *testing.T) {
	for text, want := range map[string]time.Duration{
		`0`: 0, `1500`: 1500 * time.Millisecond, `0.2`: time.Millisecond, `"90s"`: 90 * time.Second, `"1h30m"`: 90 * time.Minute, `"1ns"`: time.Millisecond,
	} {
		var d Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || time.Duration(d) != want {
			t.Errorf("%s is read as %v, %v; want %v", text, d, err, want)
		}
		b, err := json.Marshal(d)
		var again Duration
		if err != nil || json.Unmarshal(b, &again) != nil || again != d {
			t.Errorf("%s is written as %s and read as %v", text, b, again)
		}
	}
	for _, text := range []string{`-1`, `"-1s"`, `"soon"`, `1e300`, `true`, `[1]`, `""`} {
		var d Duration
		if err := json.Unmarshal([]byte(text), &d); err == nil {
			t.Errorf("%s is read as %v", text, d)
		}
	}
}

func TestDaysAreReadAsPeopleWriteThem(t *testing.T) {
	for text, want := range map[string]time.Duration{"30d": 30 * 24 * time.Hour, "0d": 0, "8h": 8 * time.Hour, "90s": 90 * time.Second} {
		if d, err := ParseDays(text); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "99999d", "1d12h", "30 d", "x"} {
		if d, err := ParseDays(text); err == nil {
			t.Errorf("%q is read as %v", text, d)
		}
	}
}

func TestADurationOfMoreThanACenturyIsRefused(t *testing.T) {
	for _, text := range []string{"2562047h47m16.854775807s", "876001h", "36501d"} {
		if d, err := ParseDays(text); err == nil {
			t.Errorf("%s is read as %v", text, d)
		}
	}
	if d, err := ParseDays("36500d"); err != nil || time.Duration(d) != maxDuration {
		t.Error(d, err)
	}
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"90s", "1h30m", "30d", "0", "-1s", "2562047h47m16.854775807s", "1e3s", ".5ms"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, read := range []func(string) (Duration, error){ParseDuration, ParseDays} {
			d, err := read(s)
			if err != nil {
				continue
			}
			if d < 0 || time.Duration(d)%time.Millisecond != 0 {
				t.Errorf("%q is read as %v", s, d)
			}
			var again Duration
			if b, err := json.Marshal(d); err != nil || json.Unmarshal(b, &again) != nil || again != d {
				t.Errorf("%q is %v, and %v after JSON", s, d, again)
			}
		}
	})
}
