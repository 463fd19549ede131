package h2

// bulk says once that a stream has moved much, in both directions together. It is guarded by
// Conn.mu.
type bulk struct {
	moved int64
	above int64 // 0: nobody wants to know
	say   func()
}

// OnBulk has f called, once and in a goroutine of its own, when the stream has moved more than so
// many bytes.
func (s *Stream) OnBulk(above int64, f func()) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.bulk.above, s.bulk.say = above, f
	s.bulk.addLocked(0)
}

func (b *bulk) addLocked(n int) {
	if b.moved += int64(n); b.above > 0 && b.moved > b.above {
		b.above = 0
		go b.say() // of the owner of the function
	}
}
