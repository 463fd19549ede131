package limit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// logged is a Log with a clock that stands, and what it wrote.
type logged struct {
	*Log
	at  time.Time
	out bytes.Buffer
}

func newLogged() *logged {
	l := &logged{at: time.Unix(1000, 0)}
	l.Log = NewLog(slog.New(slog.NewJSONHandler(&l.out, nil)))
	l.now = func() time.Time { return l.at }
	return l
}

// lines returns the lines that were written since the last call.
func (l *logged) lines(t *testing.T) (lines []map[string]any) {
	t.Helper()
	for dec := json.NewDecoder(&l.out); dec.More(); {
		var line map[string]any
		if err := dec.Decode(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	l.out.Reset()
	return lines
}

func TestOneLineASecondAndThenACount(t *testing.T) {
	l := newLogged()
	for range 1000 {
		l.Info("eve", "no")
	}
	l.Info("bob", "no")
	if got := l.lines(t); len(got) != 2 {
		t.Fatalf("%d lines of two keys", len(got))
	}
	l.at = l.at.Add(time.Second)
	l.Warn("eve", "no", "n", 7)
	got := l.lines(t)
	if len(got) != 1 || got[0]["skipped"] != 999.0 || got[0]["n"] != 7.0 || got[0]["level"] != "WARN" {
		t.Errorf("after a second: %v", got)
	}
	l.at = l.at.Add(time.Hour)
	l.Info("eve", "no")
	if got := l.lines(t); len(got) != 1 || got[0]["skipped"] != nil {
		t.Errorf("an hour later: %v", got)
	}
}

func TestManyKeysTogetherAreLimitedAsWell(t *testing.T) {
	l := newLogged()
	for i := range 10_000 {
		l.Info(fmt.Sprint("peer ", i), "no")
	}
	if got := len(l.lines(t)); got != linesBurst {
		t.Errorf("%d lines at once, want %d", got, linesBurst)
	}
	l.at = l.at.Add(2 * time.Second)
	for i := range 10_000 {
		l.Info(fmt.Sprint("peer ", i), "no")
	}
	if got := len(l.lines(t)); got != 2*linesASecond {
		t.Errorf("%d lines in the two seconds after that, want %d", got, 2*linesASecond)
	}
	if len(l.keys) > maxLogKeys {
		t.Errorf("%d keys are remembered", len(l.keys))
	}
}

func TestWhatAPeerWroteIsCut(t *testing.T) {
	long := strings.Repeat("é", 40_000)
	l := newLogged()
	l.Info(long, "no", "text", long, "err", errors.New(long), "list", []string{long, long}, slog.Group("g", "x", long), "n", 1)
	if n := l.out.Len(); n > 6*(MaxValue+100) {
		t.Errorf("a line of %d bytes", n)
	}
	got := l.lines(t)
	if len(got) != 1 {
		t.Fatalf("%d lines", len(got))
	}
	for _, key := range []string{"text", "err", "list", "g"} {
		if s, ok := got[0][key].(string); !ok || len(s) > MaxValue || !strings.HasSuffix(s, "...") || !utf8.ValidString(s) {
			t.Errorf("%s: %T of %d bytes", key, got[0][key], len(s))
		}
	}
}

func TestClipCutsBetweenCharacters(t *testing.T) {
	for _, tt := range []struct{ name, in string }{
		{"short", "abc"},
		{"as long as may be", strings.Repeat("a", MaxValue)},
		{"one more", strings.Repeat("a", MaxValue+1)},
		{"two bytes each", strings.Repeat("é", MaxValue)},
		{"four bytes each", "a" + strings.Repeat("😀", MaxValue)},
		{"not UTF-8", strings.Repeat("\x80", 2*MaxValue)},
	} {
		got := Clip(tt.in)
		if len(got) > MaxValue || len(tt.in) <= MaxValue && got != tt.in || utf8.ValidString(tt.in) && !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes become %d: %q", tt.name, len(tt.in), len(got), got)
		}
		if len(tt.in) > MaxValue && len(got) < MaxValue-len("...")-utf8.UTFMax {
			t.Errorf("%s: only %d bytes are left", tt.name, len(got))
		}
	}
}
