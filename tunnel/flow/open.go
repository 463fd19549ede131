package flow

import (
	"context"
	"strconv"
	"time"

	"ztm/tunnel/answer"
	"ztm/tunnel/buffer"
	"ztm/tunnel/h2"
)

// fieldCapsules marks a request or an answer whose body is capsules (RFC 9297 section 3.4): a flow
// of datagrams.
const fieldCapsules = "capsule-protocol"

// How long a client has to say its first bytes, so that they go with the request in one packet, and
// how long an exit waits for the first bytes of the target where the client has said something, so
// that they go with the answer.
const (
	earlyWait  = 2 * time.Millisecond
	answerWait = 2 * time.Millisecond
)

// maxEarly is how many bytes go with a request, at the most.
const maxEarly = 16 << 10

var earlyBuffers = buffer.NewClasses(maxEarly)

// Open sends a request, whose body becomes the writing direction, and waits for the exit's answer.
// An exit that says no gives a *[Refused]; any other error means that there was no answer. ctx
// governs the opening; the flow lives until it is closed.
//
// What early gives at once, if it is not nil, goes with the request. Open has stopped it when it
// returns. The Conn leaves out as many of the bytes that are written to it: they are the same ones.
func Open(ctx context.Context, session *h2.Conn, f h2.Fields, datagrams bool, early Early) (*Conn, error) {
	if datagrams {
		f.Add(fieldCapsules, "?1")
	}
	s, err := session.Open(f, false)
	if err != nil {
		return nil, err
	}
	sent := 0
	if early != nil {
		sent = sendEarly(ctx, s, early)
	}
	answer, err := s.Response(ctx)
	if err != nil {
		s.Reset()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
	if status := answer.Get(":status"); status != "200" {
		return nil, refused(ctx, s, status)
	}
	c := newConn(s, datagrams)
	c.early = sent
	return c, nil
}

// sendEarly sends what a client says at once, and returns how many bytes that were.
//
// That the peer does not take them is no error here: its answer says why. A peer that gives no window
// is waited for as long as for its answer.
func sendEarly(ctx context.Context, s *h2.Stream, early Early) int {
	b := earlyBuffers.Get(maxEarly)
	defer earlyBuffers.Put(b)
	late := time.AfterFunc(earlyWait, func() { early.Stop() })
	n, _ := early.Read(*b)
	late.Stop()
	sent := early.Stop()
	if n > 0 {
		defer context.AfterFunc(ctx, func() { s.Reset() })()
		s.Write((*b)[:n])
	}
	return sent
}

// maxRefusal is the longest refusal that is read, in bytes.
const maxRefusal = 8 << 10

// refused reads how a peer said no, as far as it says it before ctx ends.
func refused(ctx context.Context, s *h2.Stream, status string) error {
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	defer s.Close()
	b, err := answer.Limited(s, maxRefusal)
	if err != nil {
		b = nil // the status says as much as is left
	}
	code, _ := strconv.Atoi(status)
	return &Refused{Reason: answer.Parse(code, b)}
}

// Accept answers the request of a stream with 200. The handler calls [Conn.Finish] before it returns.
//
// Where the client has said something already, the answer waits a moment for what the target says
// to that: then both go in one packet.
//
// way is beside the session, for datagrams; nil: there is none. It is there before the answer is.
func Accept(s *h2.Stream, datagrams bool, way Beside) (*Conn, error) {
	c := newConn(s, datagrams)
	c.beside.exit = true
	if way != nil {
		c.Beside(way)
	}
	f := h2.Fields{{Name: ":status", Value: "200"}}
	if datagrams {
		f.Add(fieldCapsules, "?1")
	}
	if err := s.Respond(f, false); err != nil {
		c.beside.end()
		return nil, err
	}
	if s.Buffered() > 0 {
		c.answer = time.AfterFunc(answerWait, func() { s.Flush() })
	} else if err := s.Flush(); err != nil {
		c.beside.end()
		return nil, err
	}
	return c, nil
}
