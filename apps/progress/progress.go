// Package progress shows people how far something is that moves bytes: one line, which is written
// anew, on a terminal; nothing but what [Bar.Say] says elsewhere.
//
//	fetching  [==========          ]  52%  1.2 GB of 2.3 GB  48.0 MB/s  0:23 left  3 of 7 files  2 sources
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ztm/apps"
)

// State is how far something is.
type State struct {
	Step        string // what is being done: "fetching"
	Done, Total int64  // bytes
	Files, Of   int    // that are done, of how many; one of one is not shown
	Sources     int    // 0 is not shown
	Name        string // of the file; shown where there is one file
}

// Bar is the line of one command. It belongs to one goroutine. Make it with [New].
type Bar struct {
	w     io.Writer
	live  bool // w is a terminal
	width int  // of the line that stands there, in runes

	began, last time.Time
	first, done int64
	rate        float64 // bytes a second, of late
}

// New makes a bar on w, which is the standard error of a command as a rule.
func New(w io.Writer) *Bar {
	b := &Bar{w: w}
	if f, ok := w.(*os.File); ok {
		st, err := f.Stat()
		b.live = err == nil && st.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return b
}

// Show shows how far it is.
func (b *Bar) Show(s State, now time.Time) {
	b.measure(s, now)
	if b.live {
		b.write(b.line(s))
	}
}

// Say writes a line of its own, above that of the bar.
func (b *Bar) Say(format string, args ...any) {
	b.clear()
	fmt.Fprintln(b.w, apps.Printable(fmt.Sprintf(format, args...)))
}

// End removes the line.
func (b *Bar) End() { b.clear() }

func (b *Bar) clear() {
	if b.width > 0 {
		fmt.Fprintf(b.w, "\r%*s\r", b.width, "")
		b.width = 0
	}
}

func (b *Bar) write(line string) {
	n := len([]rune(line))
	fmt.Fprintf(b.w, "\r%s%*s", line, max(0, b.width-n), "")
	b.width = n
}

// measure keeps the rate of the last seconds: the last one counts for about a third.
func (b *Bar) measure(s State, now time.Time) {
	if b.began.IsZero() {
		b.began, b.last, b.first, b.done = now, now, s.Done, s.Done
		return
	}
	past := now.Sub(b.last).Seconds()
	if past < 0.1 {
		return
	}
	rate := float64(max(0, s.Done-b.done)) / past
	if share := min(1, past/3); b.rate == 0 {
		b.rate = rate
	} else {
		b.rate += (rate - b.rate) * share
	}
	b.last, b.done = now, s.Done
}

// Rate returns the bytes a second since the first Show.
func (b *Bar) Rate(now time.Time) float64 {
	past := now.Sub(b.began).Seconds()
	if b.began.IsZero() || past <= 0 {
		return 0
	}
	return float64(b.done-b.first) / past
}

const barWidth = 20

func (b *Bar) line(s State) string {
	share := 0.0
	if s.Total > 0 {
		share = min(1, float64(s.Done)/float64(s.Total))
	}
	full := int(share * barWidth)
	var out strings.Builder
	fmt.Fprintf(&out, "%s  [%-*s] %3d%%  %s of %s", s.Step, barWidth, strings.Repeat("=", full), int(share*100), apps.Amount(s.Done), apps.Amount(s.Total))
	if b.rate > 0 {
		fmt.Fprintf(&out, "  %s/s", apps.Amount(int64(b.rate)))
		if left := float64(s.Total-s.Done) / b.rate; s.Total > s.Done && left < 100*3600 {
			fmt.Fprintf(&out, "  %s left", clock(time.Duration(left)*time.Second))
		}
	}
	if s.Of > 1 {
		fmt.Fprintf(&out, "  %d of %d files", s.Files, s.Of)
	} else if s.Name != "" {
		fmt.Fprintf(&out, "  %s", s.Name)
	}
	if s.Sources > 0 {
		fmt.Fprintf(&out, "  %d source%s", s.Sources, map[bool]string{true: "s"}[s.Sources != 1])
	}
	return cut(apps.Printable(out.String()), 110)
}

func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most])
	}
	return s
}

func clock(d time.Duration) string {
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
