package cli

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/file/transfer"
)

// A bar is one line at the lower end of a terminal, written anew a few times a second:
//
//	photo.jpg  copying  1.2 GB of 3.4 GB  35%  98 MB/s  0:23
//
// It goes to standard error if that is a terminal, and nowhere otherwise. Nothing of it is left when
// the copy is over.

const (
	barWidth = 78
	barPace  = 200 * time.Millisecond
)

// startBar shows how far a copy is, until stop is called.
func startBar(w io.Writer, quiet bool, name string, m *transfer.Meter) (stop func()) {
	if quiet || !terminal(w) {
		return func() {}
	}
	b := &bar{name: apps.Bytes(name).String(), m: m, begin: time.Now()}
	ended := make(chan struct{})
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(barPace)
		defer tick.Stop()
		for {
			select {
			case now := <-tick.C:
				fmt.Fprintf(w, "\r%-*s", barWidth, b.text(now))
			case <-ended:
				fmt.Fprintf(w, "\r%*s\r", barWidth, "")
				return
			}
		}
	})
	return func() {
		close(ended)
		drawing.Wait()
	}
}

// terminal reports whether a person reads w.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || f.Name() == os.DevNull {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&fs.ModeCharDevice != 0
}

type bar struct {
	name  string
	m     *transfer.Meter
	begin time.Time
	rate  float64 // bytes a second, smoothed
	last  time.Time
	moved int64
}

var steps = []string{"starting", "comparing", "copying", "finishing"}

// text returns the line for a moment.
func (b *bar) text(now time.Time) string {
	done, total := b.m.Bytes.Load(), b.m.TotalBytes.Load()
	if since := now.Sub(b.last).Seconds(); b.last.IsZero() {
		b.last, b.moved = now, done
	} else if since > 0 {
		b.rate += (float64(done-b.moved)/since - b.rate) / 5
		b.last, b.moved = now, done
	}
	line := fmt.Sprintf("  %s  %s", steps[b.m.Step.Load()], size(done))
	if total > 0 {
		line += fmt.Sprintf(" of %s  %d%%", size(total), min(done*100/max(total, 1), 100))
	}
	if files := b.m.TotalFiles.Load(); files > 1 {
		line += fmt.Sprintf("  %d/%d files", b.m.Files.Load(), files)
	}
	line += fmt.Sprintf("  %s/s", size(int64(b.rate)))
	if left := total - done; left > 0 && b.rate > 1 {
		line += "  " + clock(time.Duration(float64(left)/b.rate*float64(time.Second)))
	}
	name := b.name
	if b.m.TotalFiles.Load() > 1 {
		if n := b.m.Name(); n != "" {
			name = n
		}
	}
	if room := barWidth - len(line); len([]rune(name)) > room {
		name = string([]rune(name)[:max(room-1, 0)]) + "…"
	}
	return strings.TrimRight(name+line, " ")
}

func clock(d time.Duration) string {
	if d > 99*time.Hour {
		return "days"
	}
	s := int(d.Seconds())
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

// size returns a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 1000 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 || f >= 100 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
