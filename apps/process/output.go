package process

import "io"

// chunk is what is read from a program at once: half a pipe.
const chunk = 32 << 10

// pump sends what the program writes, until it ends or drain found nothing more.
//
//	child -> Read -> [Recorder] -> [tail] -> the caller's flow
//
// A caller that does not read stops this goroutine, and so the program.
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
		a.send(seal(frame, k)) // who reads a's frames learns of a failure, too
	}
}

// tail is the last of a session's output, shown to a caller that returns.
type tail struct{ b []byte }

const maxTail = 64 << 10

func (t *tail) write(p []byte) {
	t.b = append(t.b, p...)
	if len(t.b) > 2*maxTail {
		t.b = t.b[:copy(t.b, t.b[len(t.b)-maxTail:])]
	}
}

// show returns at most maxTail bytes, from the beginning of a line where there is one: no escape sequence and no
// character is cut, as far as that can be known.
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
