// Package sink takes the audit log of an endpoint to other places, as its owner has set:
//
//	audit.Log -> Sinks.put -> a bounded queue for each place -> gather a batch -> write
//	                          full: dropped, counted           failed: again, later
//
// A place that is slow or gone costs lines, which are counted in the log itself, and never a flow.
// Each minute with news has a signed checkpoint, each hour without any a sign of life.
package sink

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"ztm/agent/audit"
	"ztm/agent/feature"
	"ztm/agent/webhook"
)

// Settings say where lines go. The zero value is nowhere.
type Settings struct {
	Own  bool `json:"own,omitempty"` // flows of the endpoint's own user are in the log as well
	File File `json:"file,omitzero"`

	Syslog  string `json:"syslog,omitempty"`  // "udp://HOST:PORT", "tcp://HOST:PORT" or "unix:///dev/log"
	Webhook string `json:"webhook,omitempty"` // a URL, which gets lines of JSON
	Secret  string `json:"secret,omitempty"`  // of the webhook; shown to nobody
}

// File is a file in the data directory. It is written while there are 64 MB free.
type File struct {
	On   bool  `json:"on,omitempty"`
	Size int64 `json:"size,omitempty"` // bytes at which a new one is begun; 0 is [DefaultSize]
	Keep int   `json:"keep,omitempty"` // how many are kept, this one included; 0 is [DefaultKeep]
}

// What 0 stands for in a [File].
const (
	DefaultSize = 10_000_000
	DefaultKeep = 5
)

// Bounds of what a person can set.
const (
	minSize, maxSize = 64 << 10, 1 << 40
	maxKeep          = 1000
)

// Check refuses what cannot be.
func (s Settings) Check() error {
	if f := s.File; f.Size != 0 && (f.Size < minSize || f.Size > maxSize) {
		return fmt.Errorf("a file of %d bytes: want between %d and %d", f.Size, minSize, int64(maxSize))
	}
	if s.File.Keep < 0 || s.File.Keep > maxKeep {
		return fmt.Errorf("%d files: want between 1 and %d", s.File.Keep, maxKeep)
	}
	if !feature.Audit {
		if s.Syslog != "" || s.Webhook != "" {
			return errors.New("this ztm was built without syslog and webhook: it keeps the audit log in memory and in a file")
		}
		return nil
	}
	if s.Syslog != "" {
		if _, err := parseSyslog(s.Syslog); err != nil {
			return err
		}
	}
	if s.Webhook != "" {
		return webhook.Hook{URL: s.Webhook, Secret: s.Secret}.Check()
	}
	return nil
}

// Config is what [Sinks] need. All of it is set.
type Config struct {
	Audit *audit.Log
	Key   ed25519.PrivateKey // of the endpoint: it signs checkpoints
	Dir   string             // where files are; it is made when there is one
	Name  string             // of the mesh, which a file is called by
	Log   *slog.Logger
}

// Sinks are the places that lines go to. Make them with [New] and end them with Close. Methods may
// be called from any goroutine.
type Sinks struct {
	Config

	mu     sync.Mutex        // taken with that of the Log held: nothing calls the Log with this one held
	set    Settings          // guarded by mu
	places map[string]*queue // guarded by mu
	ended  chan struct{}     // closed by Close; nil before there was a place; guarded by mu
	closed bool              // guarded by mu
	work   sync.WaitGroup
}

// New makes Sinks that go nowhere yet.
func New(c Config) *Sinks {
	s := &Sinks{Config: c, places: map[string]*queue{}}
	c.Audit.Out(s.put)
	return s
}

// Settings returns those that are in force.
func (s *Sinks) Settings() Settings {
	s.mu.Lock()
	set := s.set
	s.mu.Unlock()
	return set
}

// Use puts settings in force, which were checked. A place that they leave as it is goes on.
func (s *Sinks) Use(next Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	old := s.set
	s.set = next
	if next.File != old.File {
		s.placeLocked("file", next.File.On, func() writer {
			return &file{path: filepath.Join(s.Dir, s.Name+".jsonl"), size: cmp.Or(next.File.Size, DefaultSize), keep: cmp.Or(next.File.Keep, DefaultKeep)}
		})
	}
	if !feature.Audit {
		return
	}
	if next.Syslog != old.Syslog {
		to, err := parseSyslog(next.Syslog)
		s.placeLocked("syslog", next.Syslog != "" && err == nil, func() writer { return to })
	}
	if next.Webhook != old.Webhook || next.Secret != old.Secret {
		s.placeLocked("webhook", next.Webhook != "", func() writer { return hook{webhook.Hook{URL: next.Webhook, Secret: next.Secret}} })
	}
}

// placeLocked begins a place anew, or ends it.
func (s *Sinks) placeLocked(name string, on bool, open func() writer) {
	if q := s.places[name]; q != nil {
		delete(s.places, name)
		q.end()
	}
	if !on {
		return
	}
	q := newQueue(name, open(), s.Log)
	s.places[name] = q
	s.work.Go(q.run)
	if s.ended == nil {
		ended := make(chan struct{})
		s.ended = ended
		s.work.Go(func() { s.keepTime(ended) })
	}
}

// put hands an entry to all places, and does not wait.
func (s *Sinks) put(e audit.Entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.places {
		q.put(e)
	}
}

// keepTime does what is done each minute.
func (s *Sinks) keepTime(ended <-chan struct{}) {
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	var before uint64
	for quiet := 0; ; quiet++ {
		select {
		case <-minute.C:
		case <-ended:
			return
		}
		s.report()
		if last := s.Audit.Last(); last != before {
			before, quiet = last, 0
		}
		if quiet >= 60 && s.any() {
			s.Audit.Add(audit.Line{Event: audit.Alive, Result: audit.OK})
		}
		s.Audit.Checkpoint(s.Key)
	}
}

func (s *Sinks) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.places) > 0
}

// report adds lines about those that were dropped.
func (s *Sinks) report() {
	dropped := map[string]int{}
	s.mu.Lock()
	for name, q := range s.places {
		if n := int(q.dropped.Swap(0)); n > 0 {
			dropped[name] = n
		}
	}
	s.mu.Unlock()
	for name, n := range dropped {
		s.Audit.Add(audit.Line{Event: audit.Dropped, Result: audit.No, Target: name, Count: n})
	}
}

// Close writes what is there, with a last checkpoint, and ends all places. It waits a moment for
// each.
func (s *Sinks) Close() {
	s.Audit.Checkpoint(s.Key)
	s.Audit.Out(nil)
	s.mu.Lock()
	s.closed = true
	for name, q := range s.places {
		delete(s.places, name)
		q.end()
	}
	if s.ended != nil {
		close(s.ended)
		s.ended = nil
	}
	s.mu.Unlock()
	s.work.Wait()
}
