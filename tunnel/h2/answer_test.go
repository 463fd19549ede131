package h2

import (
	"context"
	"io"
	"net/http"
	"testing"

	"ztm/tunnel/h2/wire"
)

// An answer that has come whole counts, whatever becomes of the request or of the connection (RFC
// 9113 section 8.1).

// lateBody is a body of a request whose bytes come when the test says so.
type lateBody struct {
	begin chan struct{} // closed when it may say something
	ended chan struct{} // closed by Close
}

func (b *lateBody) Read(p []byte) (int, error) {
	<-b.begin
	return len(p), nil
}

func (b *lateBody) Close() error {
	close(b.ended)
	return nil
}

// heard returns when c has read all that its peer has said so far.
func heard(t *testing.T, c *Conn) {
	t.Helper()
	if _, err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAnAnswerCountsAlsoWhereTheBodyOfItsRequestWasNotWanted(t *testing.T) {
	c, peer := rawServer(t, Options{})
	body := &lateBody{make(chan struct{}), make(chan struct{})}
	go func() {
		id := peer.next(wire.FrameHeaders).Stream
		peer.say(section(id, 0, ok), data(id, wire.FlagEndStream, "whole"), wire.AppendReset(nil, id, wire.NoError))
	}()
	r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://peer/x", body)
	resp, err := c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	heard(t, c)
	close(body.begin)
	<-body.ended
	if got, err := io.ReadAll(resp.Body); string(got) != "whole" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	resp.Body.Close()
}

func TestAWholeAnswerOutlivesItsConnection(t *testing.T) {
	for name, last := range map[string][]byte{
		"the peer closes":        nil,
		"it does so with GOAWAY": wire.AppendGoAway(nil, 1, wire.NoError),
		"it made out a fault":    wire.AppendGoAway(nil, 1, wire.ProtocolError),
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := rawServer(t, Options{})
			s := open(t, c)
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			id := peer.next(wire.FrameHeaders).Stream
			peer.say(section(id, 0, ok), data(id, wire.FlagEndStream, "whole"), last)
			peer.conn.Close()
			<-c.Done()
			if _, err := s.Write([]byte("more")); err == nil {
				t.Error("a connection that has ended takes bytes")
			}
			if f, err := s.Response(context.Background()); err != nil || f.Get(":status") != "200" {
				t.Fatalf("%v, %v", f, err)
			}
			if got, err := io.ReadAll(s); string(got) != "whole" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

func TestAWholeAnswerIsDeliveredAfterTheEndOfItsConnection(t *testing.T) {
	c, peer := rawServer(t, Options{})
	s := open(t, c)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	id := peer.next(wire.FrameHeaders).Stream
	peer.say(section(id, 0, ok), data(id, wire.FlagEndStream, "whole"))
	peer.conn.Close()
	<-c.Done()
	done := make(chan error, 1)
	s.Deliver(io.Discard, func(n int64, err error) {
		if n != 5 {
			t.Errorf("%d bytes", n)
		}
		done <- err
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAnAnswerThatIsNotWholeIsNone(t *testing.T) {
	plain, six := ok, append(append(Fields(nil), ok...), Field{Name: "content-length", Value: "6"})
	for name, answer := range map[string]struct {
		fields Fields
		last   []byte
	}{
		"reset":                 {plain, wire.AppendReset(nil, 1, wire.NoError)},
		"reset with an error":   {plain, wire.AppendReset(nil, 1, wire.Cancel)},
		"taken back at its end": {plain, append(data(1, wire.FlagEndStream, ""), wire.AppendReset(nil, 1, wire.InternalError)...)},
		"cut off":               {plain, wire.AppendGoAway(nil, 1, wire.NoError)},
		"longer than it says":   {six, data(1, wire.FlagEndStream, "longer")},
		"shorter than it says":  {six, data(1, wire.FlagEndStream, "")},
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := rawServer(t, Options{})
			s := open(t, c)
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			peer.next(wire.FrameHeaders)
			peer.say(section(1, 0, answer.fields), data(1, 0, "half"), answer.last)
			peer.conn.Close()
			<-c.Done()
			if got, err := io.ReadAll(s); err == nil {
				t.Errorf("%q was taken for a whole answer", got)
			}
		})
	}
}
