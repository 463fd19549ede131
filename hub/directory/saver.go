package directory

import (
	"fmt"
	"sync"

	"ztm/tunnel/identity"
)

// saver writes changed rows to disk, in batches: all that gathered while the disk was busy are one
// write. When ten thousand agents come back with a new version, that is a few hundred writes.
type saver struct {
	rows  func(map[identity.ID]struct{}) map[identity.ID]*row
	write func(map[identity.ID]*row) error
	wake  chan struct{} // holds a token when next is not empty; never closed

	mu     sync.Mutex
	next   *batch
	closed bool
}

type batch struct {
	ids  map[identity.ID]struct{}
	done chan struct{} // closed when err is set
	err  error
}

func newBatch() *batch {
	return &batch{ids: map[identity.ID]struct{}{}, done: make(chan struct{})}
}

func newSaver(rows func(map[identity.ID]struct{}) map[identity.ID]*row, write func(map[identity.ID]*row) error) *saver {
	return &saver{rows: rows, write: write, wake: make(chan struct{}, 1), next: newBatch()}
}

// save returns when the rows of the endpoints are on disk as they are now, or newer.
func (s *saver) save(ids ...identity.ID) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("the hub is shutting down")
	}
	b := s.next
	for _, id := range ids {
		b.ids[id] = struct{}{}
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
	s.mu.Unlock()
	<-b.done
	return b.err
}

// run writes until stop is closed. What was given to save before that is written.
func (s *saver) run(stop <-chan struct{}) {
	for {
		select {
		case <-s.wake:
			s.flush(false)
		case <-stop:
			s.flush(true)
			return
		}
	}
}

func (s *saver) flush(last bool) {
	s.mu.Lock()
	b := s.next
	s.next, s.closed = newBatch(), last
	s.mu.Unlock()
	if len(b.ids) > 0 {
		b.err = s.write(s.rows(b.ids))
	}
	close(b.done)
}
