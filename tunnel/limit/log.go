package limit

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// MaxValue is how much of one value a limited log shows, in bytes. A peer can write values that are
// as long as a message.
const MaxValue = 200

// Limits of a [Log]. A line is then at most a few values of MaxValue bytes.
const (
	lineEvery    = time.Second // lines of one key
	linesBurst   = 50          // lines of all keys at once
	linesASecond = 10          // lines of all keys that come after that
	maxLogKeys   = 256         // keys that are remembered
)

// Log writes lines that peers can cause. The first line of a key is written. Lines that follow
// within a second are skipped, and the next line says how many. Over all keys ten lines a second
// are written. Make it with [NewLog].
type Log struct {
	log *slog.Logger
	now func() time.Time // tests set it

	all *Buckets[struct{}]

	mu   sync.Mutex
	keys map[string]*line
}

// line is what a Log remembers of a key.
type line struct {
	at      time.Time // of the last line that was written
	skipped int       // lines since then
}

// NewLog makes a Log that writes to log.
func NewLog(log *slog.Logger) *Log {
	return &Log{
		log: log, now: time.Now,
		all:  NewBuckets[struct{}](Rate{Burst: linesBurst, PerSecond: linesASecond}, 1),
		keys: map[string]*line{},
	}
}

// Info writes a line at level INFO. key names the peer, and the kind of line if a peer can cause
// several kinds; msg and args are those of [slog.Logger.Info]. Values are cut to [MaxValue] bytes.
func (l *Log) Info(key, msg string, args ...any) { l.write(key, slog.LevelInfo, msg, args) }

// Warn writes a line at level WARN; see [Log.Info].
func (l *Log) Warn(key, msg string, args ...any) { l.write(key, slog.LevelWarn, msg, args) }

func (l *Log) write(key string, level slog.Level, msg string, args []any) {
	ctx := context.Background()
	if !l.log.Enabled(ctx, level) {
		return
	}
	now := l.now()
	skipped, ok := l.admit(Clip(key), now)
	if !ok {
		return
	}
	r := slog.NewRecord(now, level, msg, 0)
	r.Add(args...)
	short := slog.NewRecord(now, level, Clip(msg), 0)
	r.Attrs(func(a slog.Attr) bool {
		short.AddAttrs(clipped(a))
		return true
	})
	if skipped > 0 {
		short.AddAttrs(slog.Int("skipped", skipped))
	}
	l.log.Handler().Handle(ctx, short)
}

// admit reports whether a line of key is written now, and how many were not since the last one.
func (l *Log) admit(key string, now time.Time) (skipped int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.keys[key]
	if k == nil {
		l.makeRoomLocked(now)
		k = &line{at: now.Add(-lineEvery)}
		l.keys[key] = k
	}
	if now.Sub(k.at) < lineEvery || !l.all.Take(struct{}{}, now) {
		k.skipped++
		return 0, false
	}
	skipped = k.skipped
	*k = line{at: now}
	return skipped, true
}

// makeRoomLocked removes keys when there are many: those without a line for a while, or else
// arbitrary ones.
func (l *Log) makeRoomLocked(now time.Time) {
	if len(l.keys) < maxLogKeys {
		return
	}
	for key, k := range l.keys {
		if now.Sub(k.at) >= lineEvery {
			delete(l.keys, key)
		}
	}
	for key := range l.keys {
		if len(l.keys) < maxLogKeys {
			return
		}
		delete(l.keys, key)
	}
}

// clipped cuts the value of an attribute. Numbers, times and truths are short as they are.
func clipped(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(Clip(a.Key), Clip(v.String()))
	case slog.KindAny, slog.KindGroup:
		return slog.String(Clip(a.Key), Clip(fmt.Sprint(v.Any())))
	}
	return slog.Attr{Key: Clip(a.Key), Value: v}
}

// Clip cuts a text to [MaxValue] bytes, between two characters. It ends in "..." then.
func Clip(s string) string {
	if len(s) <= MaxValue {
		return s
	}
	n := MaxValue - len("...")
	for n > 0 && n > MaxValue-len("...")-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n]) + "..."
}
