package process

import "io"

// chunk is what is read from a program at once: half a pipe.
const chunk = 32 << 10

// pump sends what the program writes, until it ends or is drained.
//
//	child -> Read -> [Recorder] -> [tail] -> the caller's flow
//
// A caller that does not read blocks this goroutine, and so the program.
func (s *Session) pump(k kind, r io.Reader) {
	buf := make([]byte, header+chunk)
	for {
		n, err := r.Read(buf[header:])
		if n > 0 {
			s.emit(k, buf[:header+n])
		}
		if err != nil {
			return
		}
	}
}

func (s *Session) emit(k kind, frame []byte) {
	s.touch()
	s.out.Lock()
	defer s.out.Unlock()
	if s.cfg.Record != nil {
		if err := s.cfg.Record.Output(frame[header:]); err != nil {
			s.End("it cannot be recorded")
			return
		}
	}
	if s.cfg.Keep {
		s.tail.write(frame[header:])
	}
	s.mu.Lock()
	a := s.caller
	s.mu.Unlock()
	if a != nil {
		a.send(seal(frame, k)) // serve, which reads from a, sees a failure as well
	}
}

// tail is the end of a session's output, which a caller that returns is shown.
type tail struct{ b []byte }

const maxTail = 64 << 10

func (t *tail) write(p []byte) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*maxTail {
		t.b = t.b[:copy(t.b, t.b[len(t.b)-maxTail:])]
	}
}

// show returns at most maxTail bytes, from the beginning of a line if there is one, because a line
// seldom begins within an escape sequence or a character.
func (t *tail) show() []byte {
	if len(t.b) <= maxTail {
		return t.b
	}
	b := t.b[len(t.b)-maxTail:]
	for i, c := range b {
		if c == '\n' {
			return b[i+1:]
		}
	}
	return b
}
