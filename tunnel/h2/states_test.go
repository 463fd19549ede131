package h2

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ztm/tunnel/h2/wire"
)

// What RFC 9113 says of streams and connections, one sentence each. scripts/h2server has the rest
// tried by h2spec.

func TestAFrameThatItsStreamCannotHaveIsAFault(t *testing.T) {
	head, end := section(1, 0, get), section(1, wire.FlagEndStream, get)
	upper := append(Fields{}, get...)
	upper = append(upper, Field{Name: "X", Value: "y"})
	for name, c := range map[string]struct {
		frames [][]byte
		conn   bool // the connection ends, not the stream alone
		code   Code
	}{
		"DATA on an idle stream":             {[][]byte{data(5, 0, "x")}, true, wire.ProtocolError},
		"DATA on stream 0":                   {[][]byte{data(0, 0, "x")}, true, wire.ProtocolError},
		"DATA after END_STREAM":              {[][]byte{end, data(1, 0, "x")}, true, wire.StreamClosed},
		"HEADERS after END_STREAM":           {[][]byte{end, head}, true, wire.StreamClosed},
		"HEADERS with an id that falls":      {[][]byte{section(3, 0, get), head}, true, wire.StreamClosed},
		"HEADERS with an even id":            {[][]byte{section(2, 0, get)}, true, wire.ProtocolError},
		"HEADERS in the middle of a section": {[][]byte{wire.AppendHeader(nil, 0, wire.FrameHeaders, 0, 1), head}, true, wire.ProtocolError},
		"trailers without an end":            {[][]byte{head, head}, false, wire.ProtocolError},
		"more padding than frame":            {[][]byte{head, frame(wire.FrameData, wire.FlagPadded, 1, "\x05abc")}, true, wire.ProtocolError},
		"RST_STREAM on an idle stream":       {[][]byte{wire.AppendReset(nil, 7, wire.Cancel)}, true, wire.ProtocolError},
		"RST_STREAM of 3 bytes":              {[][]byte{head, frame(wire.FrameReset, 0, 1, "abc")}, true, wire.FrameSizeError},
		"WINDOW_UPDATE on an idle stream":    {[][]byte{wire.AppendWindow(nil, 7, 1)}, true, wire.ProtocolError},
		"WINDOW_UPDATE of 0":                 {[][]byte{head, wire.AppendWindow(nil, 1, 0)}, false, wire.ProtocolError},
		"WINDOW_UPDATE of 0, connection":     {[][]byte{wire.AppendWindow(nil, 0, 0)}, true, wire.ProtocolError},
		"a window that overflows":            {[][]byte{head, wire.AppendWindow(nil, 1, wire.MaxWindow)}, false, wire.FlowControlError},
		"the connection's overflows":         {[][]byte{wire.AppendWindow(nil, 0, wire.MaxWindow)}, true, wire.FlowControlError},
		"PUSH_PROMISE":                       {[][]byte{frame(wire.FramePushPromise, 0, 1, "abcd")}, true, wire.ProtocolError},
		"PING on a stream":                   {[][]byte{frame(wire.FramePing, 0, 1, "12345678")}, true, wire.ProtocolError},
		"SETTINGS of 5 bytes":                {[][]byte{frame(wire.FrameSettings, 0, 0, "12345")}, true, wire.FrameSizeError},
		"a frame that is too large":          {[][]byte{head, wire.AppendHeader(nil, wire.MaxFrame+1, wire.FrameData, 0, 1)}, true, wire.FrameSizeError},
		"a window of SETTINGS too large":     {[][]byte{wire.AppendSettings(nil, wire.Setting{ID: wire.SettingInitialWindow, Value: wire.MaxWindow + 1})}, true, wire.FlowControlError},
		"a field name with a capital":        {[][]byte{section(1, 0, upper)}, false, wire.ProtocolError},
	} {
		t.Run(name, func(t *testing.T) {
			stay := make(chan struct{})
			conn, peer := rawClient(t, Options{Handler: func(s *Stream) { <-stay }})
			defer close(stay)
			peer.say(c.frames...)
			if c.conn {
				if code := peer.ends(conn); code != c.code {
					t.Errorf("the connection ends with code %d", code)
				}
				return
			}
			if f := peer.next(wire.FrameReset); f.Stream != 1 || Code(f.payload[3]) != c.code {
				t.Errorf("stream %d is reset: %v", f.Stream, f.payload)
			}
			if conn.Err() != nil {
				t.Error(conn.Err())
			}
		})
	}
}

func TestWhatAPeerSendsBeforeItHearsOfAResetIsNoFault(t *testing.T) {
	c, peer := rawClient(t, Options{Window: wire.FirstWindow, Handler: func(s *Stream) { s.Reset() }})
	peer.say(section(1, 0, get))
	peer.next(wire.FrameReset)
	peer.say(data(1, 0, "late"), wire.AppendWindow(nil, 1, 10), section(1, wire.FlagEndStream, Fields{{Name: "x", Value: "y"}}))
	heard(t, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if left := c.recv + int64(c.connCredit); left != int64(c.connWindow) {
		t.Errorf("%d of %d bytes of the connection's window are left", left, c.connWindow)
	}
}

func TestAfterGoAwayStreamsInFlightEndAsTheyWouldAndNoNewOnesBegin(t *testing.T) {
	c, peer := rawServer(t, Options{})
	seen, unseen := open(t, c), open(t, c)
	for _, s := range []*Stream{seen, unseen} {
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	peer.next(wire.FrameHeaders)
	peer.say(wire.AppendGoAway(nil, 1, wire.NoError))
	heard(t, c)
	if _, err := c.Open(get, true); !errors.Is(err, ErrClosed) {
		t.Errorf("a new stream: %v", err)
	}
	var refused *Error
	if _, err := unseen.Read(make([]byte, 1)); !errors.As(err, &refused) || refused.Code != wire.RefusedStream {
		t.Errorf("the stream that the peer has not seen: %v", err)
	}
	peer.say(section(1, 0, ok), data(1, wire.FlagEndStream, "whole"))
	if got, err := io.ReadAll(seen); string(got) != "whole" || err != nil {
		t.Errorf("the stream in flight: %q, %v", got, err)
	}
	if err := seen.CloseWrite(); err != nil {
		t.Error(err)
	}
}

func TestWhereAServerRetiresAConnectionStreamsGoOnAndNoNewOnesBegin(t *testing.T) {
	server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		io.Copy(w, r.Body)
	}), func(time.Duration) Options { return Options{} })
	defer server.Close()
	near, far := net.Pipe()
	server.Serve(&Tagged{Conn: far, Tag: "this"})
	c := Client(near, Options{})
	defer c.Close()
	s := open(t, c)
	if _, err := s.Response(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Retire(func(tag any) bool { return tag == "other" })
	if _, err := c.Ping(t.Context()); err != nil || c.Err() != nil {
		t.Fatalf("another one was meant: %v, %v", err, c.Err())
	}
	server.Retire(func(tag any) bool { return tag == "this" })
	if _, err := c.Ping(t.Context()); err != nil { // its answer comes behind
		t.Fatal(err)
	}
	if _, err := c.Open(get, true); !errors.Is(err, ErrClosed) {
		t.Errorf("a new stream: %v", err)
	}
	if _, err := s.Write([]byte("goes on")); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); string(got) != "goes on" || err != nil {
		t.Errorf("the stream that is open: %q, %v", got, err)
	}
}

func TestANewStreamOfALeavingPeerIsNotServed(t *testing.T) {
	c, peer := rawClient(t, Options{Handler: func(s *Stream) { t.Error("it was served") }})
	peer.say(wire.AppendGoAway(nil, 0, wire.NoError), section(1, wire.FlagEndStream, get))
	heard(t, c)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.theirs != 0 {
		t.Errorf("%d streams are open", c.theirs)
	}
}

func TestADirectionThatHasEndedTakesNothingMoreAndTheOtherGoesOn(t *testing.T) {
	c, peer := rawServer(t, Options{})
	s := open(t, c)
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if f := peer.next(wire.FrameHeaders); !f.Has(wire.FlagEndStream) {
		t.Error("the end has a frame of its own")
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("bytes can be written after the end")
	}
	peer.say(section(1, 0, ok), data(1, 0, "still"))
	b := make([]byte, 5)
	if _, err := io.ReadFull(s, b); string(b) != "still" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	peer.say(data(1, wire.FlagEndStream, ""))
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Error(err)
	}
	heard(t, c)
	if free := c.Free(); free != 100 {
		t.Errorf("%d streams can be opened: one that has ended both ways counts", free)
	}
}

func TestADeadlineEndsWhatWaitsAndCanBeSetAgain(t *testing.T) {
	c, peer := rawServer(t, Options{})
	s := open(t, c)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Duration{-time.Second, 20 * time.Millisecond} {
		s.SetDeadline(time.Now().Add(at))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a read after %v: %v", at, err)
		}
		if _, err := s.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) { // more than the window
			t.Errorf("a write after %v: %v", at, err)
		}
	}
	s.SetDeadline(time.Time{})
	peer.say(section(1, 0, ok), data(1, wire.FlagEndStream, "whole"))
	if got, err := io.ReadAll(s); string(got) != "whole" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestADeadlineThatWasSetAgainDoesNotEndAnything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Conn{streams: map[uint32]*Stream{}}
		s := c.newStream(1)
		s.SetReadDeadline(time.Now().Add(time.Second))
		s.SetReadDeadline(time.Now().Add(time.Hour))
		if err := after(2*time.Second, s); err != nil {
			t.Error(err)
		}
		if err := after(time.Hour, s); err == nil {
			t.Error("the deadline has passed unnoticed")
		}
		s.SetReadDeadline(time.Now().Add(time.Second))
		if s.removeLocked(); s.late.read.timer.Stop() {
			t.Error("a stream that has ended keeps a timer")
		}
	})
}

// after returns how the reading deadline of s is, a time later.
func after(d time.Duration, s *Stream) error {
	<-time.After(d)
	synctest.Wait()
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.late.read.err()
}

func TestMuchIsSaidOnceOfAStream(t *testing.T) {
	c, _ := pair(t, echo)
	s := open(t, c)
	defer s.Close()
	said := make(chan struct{}, 2)
	s.OnBulk(1000, func() { said <- struct{}{} })
	buf := make([]byte, 400)
	for range 10 { // both directions count
		if _, err := s.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, buf); err != nil {
			t.Fatal(err)
		}
	}
	<-said
	late := open(t, c)
	defer late.Close()
	late.Write(make([]byte, 2000))
	late.OnBulk(1000, func() { said <- struct{}{} }) // wanted after it was there
	<-said
	if len(said) > 0 {
		t.Error("it was said twice")
	}
}

func TestAnAnswerOfTheFirstWindowNeedsNoOtherAlsoAfterASmallOne(t *testing.T) {
	const window = 256 << 10
	_, peer := rawServer(t, Options{Window: window})
	given := wire.FirstWindow + int(binary.BigEndian.Uint32(peer.next(wire.FrameWindow).payload))
	if given < window+10_000 {
		t.Errorf("the window of the connection is %d bytes, that of a stream %d", given, window)
	}
}
