package limit

import (
	"slices"
	"sync"
)

// Share divides a number of places fairly. While there are free ones, each key may take as many as
// it likes. When all are taken, a key that has fewer than another takes over the oldest place of
// the one that has most, so that none can keep the others out, however many places it takes. Make
// it with [NewShare].
type Share[K comparable] struct {
	most int

	mu    sync.Mutex
	held  map[K][]*place // the oldest first; guarded by mu
	total int            // guarded by mu
}

// place is what one holder has.
type place struct {
	yield func()
	lost  bool // to another key; guarded by Share.mu
}

// NewShare makes a Share of so many places, one or more.
func NewShare[K comparable](most int) *Share[K] {
	return &Share[K]{most: most, held: map[K][]*place{}}
}

// Acquire takes a place for key and reports whether there was one. yield is called, once and in a
// goroutine of the one that comes, if the place goes to another key: it has the holder end soon,
// must not block and must not call the Share. After a success release is called once, when the
// holder has ended.
func (s *Share[K]) Acquire(key K, yield func()) (release func(), ok bool) {
	p := &place{yield: yield}
	s.mu.Lock()
	victim, ok := s.admitLocked(key)
	if ok {
		s.held[key] = append(s.held[key], p)
		s.total++
	}
	s.mu.Unlock()
	if victim != nil {
		victim.yield()
	}
	return func() { s.release(key, p) }, ok
}

// admitLocked makes room for one more of key, and returns whose place it is.
func (s *Share[K]) admitLocked(key K) (victim *place, ok bool) {
	if s.total < s.most {
		return nil, true
	}
	richest := key
	for k, places := range s.held {
		if len(places) > len(s.held[richest]) {
			richest = k
		}
	}
	if len(s.held[richest]) < len(s.held[key])+2 {
		return nil, false // it has no more than its share, and key would have
	}
	victim = s.held[richest][0]
	s.removeLocked(richest, victim)
	return victim, true
}

func (s *Share[K]) release(key K, p *place) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !p.lost {
		s.removeLocked(key, p)
	}
}

func (s *Share[K]) removeLocked(key K, p *place) {
	p.lost = true
	places := s.held[key]
	i := slices.Index(places, p)
	if places = slices.Delete(places, i, i+1); len(places) == 0 {
		delete(s.held, key)
	} else {
		s.held[key] = places
	}
	s.total--
}

// Count returns how many places key has.
func (s *Share[K]) Count(key K) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held[key])
}
