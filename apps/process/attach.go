package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"ztm/apps"
)

// Attach makes the flow the session's caller, in place of the one it had, and serves it until the
// program has ended or the flow is lost. If the session is not kept, the loss of the flow ends the
// program, and Attach waits for that. It closes the flow.
func (s *Session) Attach(c *Conn) {
	defer c.conn.Close()
	first := false
	s.begin.Do(func() { first = true })
	a := &attachment{Conn: c}
	err := s.greet(a, first)
	if first {
		go s.run() // ends with the program; Done tells
	}
	if err == nil {
		s.serve(a)
	}
	s.leave(a)
}

// greet makes a the caller. Output is held back meanwhile, so that none is sent twice or not at
// all.
func (s *Session) greet(a *attachment, first bool) error {
	s.mu.Lock()
	old := s.caller
	s.mu.Unlock()
	if old != nil {
		old.dismiss("it was taken over by another attach")
	}
	s.out.Lock()
	defer s.out.Unlock()
	var room int
	a.turn, room = s.in.attach()
	if err := a.sendJSON(kindStarted, Started{s.cfg.ID, apps.Bytes(s.cfg.Program.Path)}); err != nil {
		return err
	}
	if !first {
		if err := a.sendBytes(kindWindow, binary.BigEndian.AppendUint32(nil, uint32(room))); err != nil {
			return err
		}
		if b := s.tail.show(); len(b) > 0 {
			if err := a.sendBytes(kindStdout, b); err != nil {
				return err
			}
		}
	}
	if s.adopt(a) {
		return nil
	}
	return a.tellExit(s.Exit())
}

// adopt makes a the caller unless the session is over.
func (s *Session) adopt(a *attachment) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.done:
		return false
	default:
		s.caller = a
		return true
	}
}

// dismiss ends the flow of a caller whose session another caller takes over. It waits for a second
// at most, because the caller may not be reading.
func (a *attachment) dismiss(reason string) {
	late := time.AfterFunc(time.Second, a.abort)
	defer late.Stop()
	a.tellExit(Exit{Status: 1, Reason: reason})
}

// serve reads the caller's frames until the flow ends: because the caller closes it, after exit, or
// because it is lost. There is no time limit after exit: a slow caller reads the last of the
// output.
func (s *Session) serve(a *attachment) {
	for {
		k, p, err := a.next()
		if err == nil {
			err = s.obey(k, p)
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			a.abort()
			return
		}
	}
}

// endOfFile is what a terminal in its usual mode takes for the end of input: Ctrl-D.
const endOfFile = 0x04

func (s *Session) obey(k kind, p []byte) error {
	switch k {
	case kindStdin:
		s.touch()
		return s.in.put(p)
	case kindEOF:
		if s.child.tty {
			return s.in.put([]byte{endOfFile})
		}
		s.in.end()
		return nil
	case kindResize:
		return s.resize(Size{binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])})
	case kindSignal:
		switch string(p) {
		case "INT", "TERM", "HUP", "QUIT", "KILL":
			s.noteEnd(!s.child.tty, false)
		}
		return s.child.signal(string(p))
	}
	return fmt.Errorf("frame of kind %#02x to a running program", byte(k))
}

func (s *Session) resize(size Size) error {
	if !s.child.tty {
		return nil
	}
	if s.cfg.Record != nil {
		if err := s.cfg.Record.Resize(size); err != nil {
			s.End("it cannot be recorded")
		}
	}
	return s.child.resize(size)
}

// leave detaches the caller, and ends a session that is not kept.
func (s *Session) leave(a *attachment) {
	s.mu.Lock()
	if s.caller == a {
		s.caller = nil
	}
	s.mu.Unlock()
	if s.cfg.Keep {
		return
	}
	s.End("the connection was lost")
	<-s.done
}
