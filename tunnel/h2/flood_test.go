package h2

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	"ztm/tunnel/h2/wire"
)

// ends returns the code of the GOAWAY that ends a connection.
func (p *rawPeer) ends(c *Conn) Code {
	p.t.Helper()
	f := p.next(wire.FrameGoAway)
	select {
	case <-c.Done():
	case <-time.After(timeout):
		p.t.Fatal("the connection goes on")
	}
	return Code(binary.BigEndian.Uint32(f.payload[4:]))
}

// frame is a frame of a kind without a name here.
func frame(kind, flags byte, id uint32, payload string) []byte {
	return append(wire.AppendHeader(nil, len(payload), kind, flags, id), payload...)
}

func TestAPeerThatSendsOnlyWhatBringsNothingLosesItsConnection(t *testing.T) {
	for name, useless := range map[string][]byte{
		"PING":                             wire.AppendPing(nil, 0, [8]byte{}),
		"answers to PINGs of nobody":       wire.AppendPing(nil, wire.FlagAck, [8]byte{}),
		"SETTINGS":                         wire.AppendSettings(nil),
		"windows of new streams":           wire.AppendSettings(nil, wire.Setting{ID: wire.SettingInitialWindow, Value: 1}),
		"empty DATA":                       data(1, 0, ""),
		"DATA of padding alone":            frame(wire.FrameData, wire.FlagPadded, 1, "\x01\x00"),
		"WINDOW_UPDATE of a stream":        wire.AppendWindow(nil, 1, 1),
		"WINDOW_UPDATE of the connection":  wire.AppendWindow(nil, 0, 1),
		"WINDOW_UPDATE of a stream gone":   wire.AppendWindow(nil, 3, 1),
		"PRIORITY":                         frame(wire.FramePriority, 0, 1, "\x00\x00\x00\x00\x01"),
		"frames of an unknown type":        frame(0xfa, 0, 0, ""),
		"RST_STREAM of a stream that ends": wire.AppendReset(nil, 3, wire.Cancel),
	} {
		t.Run(name, func(t *testing.T) {
			stay := make(chan struct{})
			c, peer := rawClient(t, Options{Handler: func(s *Stream) {
				if s.Fields().Get(":path") == "/stays" {
					<-stay
				}
			}})
			defer close(stay)
			stays := slices.Clone(get)
			stays[3].Value = "/stays"
			peer.say(section(1, 0, stays), section(3, wire.FlagEndStream, get))
			peer.next(wire.FrameReset) // stream 3 has ended
			for range 40 {
				peer.say(bytes.Repeat(useless, 1000))
			}
			if code := peer.ends(c); code != wire.EnhanceYourCalm {
				t.Errorf("code %d", code)
			}
		})
	}
}

func TestStreamsThatAreResetAtOnceEndTheConnectionAndRunFewHandlers(t *testing.T) {
	var running, most atomic.Int64
	stay := make(chan struct{})
	const limit = 50
	c, peer := rawClient(t, Options{MaxStreams: limit, Handler: func(s *Stream) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		<-stay
		running.Add(-1)
	}})
	defer close(stay)
	var all []byte
	for i := range uint32(5000) {
		all = append(all, section(2*i+1, 0, get)...)
		all = wire.AppendReset(all, 2*i+1, wire.Cancel)
	}
	peer.say(all)
	if code := peer.ends(c); code != wire.EnhanceYourCalm {
		t.Errorf("code %d", code)
	}
	if most.Load() > limit {
		t.Errorf("%d handlers ran at the same time", most.Load())
	}
}

func TestAHandlerCountsAsAStreamUntilItReturns(t *testing.T) {
	stay := make(chan struct{})
	_, peer := rawClient(t, Options{MaxStreams: 1, Handler: func(s *Stream) { <-stay }})
	defer close(stay)
	peer.say(section(1, 0, get), wire.AppendReset(nil, 1, wire.Cancel), section(3, 0, get))
	if f := peer.next(wire.FrameReset); f.Stream != 3 || Code(binary.BigEndian.Uint32(f.payload)) != wire.RefusedStream {
		t.Errorf("stream %d: %v", f.Stream, f.payload)
	}
}

func TestStreamsThatWeHaveToResetEndTheConnection(t *testing.T) {
	stay := make(chan struct{})
	c, peer := rawClient(t, Options{Handler: func(s *Stream) { <-stay }})
	defer close(stay)
	var all []byte
	for i := range uint32(1000) {
		all = append(all, section(2*i+1, 0, get)...)
		all = wire.AppendWindow(all, 2*i+1, 0) // a fault of the stream alone (CVE-2025-8671)
	}
	peer.say(all)
	if code := peer.ends(c); code != wire.EnhanceYourCalm {
		t.Errorf("code %d", code)
	}
}

func TestAPeerMayReadManySmallAnswersAndGiveTheWindowBack(t *testing.T) {
	c, _ := pair(t, echo, func(o *Options) { o.Window = wire.FirstWindow })
	s := open(t, c)
	defer s.Close()
	buf := make([]byte, 3<<10)
	for range 10_000 { // far more frames than a flood is allowed
		if _, err := s.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
}

// entry is a field section that puts one field of so many bytes into the table of the decoder, and
// begins a request with it.
func entry(size int) []byte {
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, f := range get {
		e.WriteField(f)
	}
	e.WriteField(Field{Name: "x", Value: string(bytes.Repeat([]byte("v"), size))})
	return block.Bytes()
}

func TestAFieldSectionIsLimited(t *testing.T) {
	piece := string(make([]byte, 4<<10))
	begin := wire.AppendHeader(nil, 0, wire.FrameHeaders, 0, 1)
	for name, frames := range map[string][]byte{
		"empty pieces":  append(bytes.Clone(begin), bytes.Repeat(frame(wire.FrameContinuation, 0, 1, ""), 8)...),
		"too much":      append(bytes.Clone(begin), bytes.Repeat(frame(wire.FrameContinuation, 0, 1, piece), 5)...),
		"a large frame": wire.AppendHeader(nil, wire.MaxFrame, wire.FrameHeaders, wire.FlagEndHeaders, 1),
	} {
		t.Run(name, func(t *testing.T) {
			c, peer := rawClient(t, Options{Handler: func(*Stream) { t.Error("it was served") }})
			peer.say(frames)
			if code := peer.ends(c); code != wire.EnhanceYourCalm {
				t.Errorf("code %d", code)
			}
		})
	}
}

func TestAFieldThatIsNamedManyTimesIsRefusedAndTheConnectionGoesOn(t *testing.T) {
	served := make(chan int, 2)
	c, peer := rawClient(t, Options{Handler: func(s *Stream) { served <- len(s.Fields()) }})
	first := entry(3000)
	bomb := append(bytes.Clone(first), bytes.Repeat([]byte{0x80 | 62}, 4000)...) // 12 MB if each counted
	peer.say(frame(wire.FrameHeaders, wire.FlagEndHeaders|wire.FlagEndStream, 1, string(bomb)))
	if f := peer.next(wire.FrameReset); f.Stream != 1 {
		t.Fatalf("stream %d was reset", f.Stream)
	}
	peer.say(section(3, wire.FlagEndStream, get))
	if n := <-served; n != len(get) {
		t.Errorf("a request of %d fields was served", n)
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

func TestAPeerThatStopsWithinAFrameIsFoundDead(t *testing.T) {
	for name, begin := range map[string][]byte{
		"a field section": wire.AppendHeader(nil, 16000, wire.FrameHeaders, 0, 1),
		"a body":          append(section(1, 0, get), wire.AppendHeader(nil, 30000, wire.FrameData, 0, 1)...),
	} {
		t.Run(name, func(t *testing.T) {
			stay := make(chan struct{})
			c, peer := rawClient(t, Options{Idle: 20 * time.Millisecond, PingWait: 50 * time.Millisecond, Handler: func(*Stream) { <-stay }})
			defer close(stay)
			peer.say(begin)
			drip := time.NewTicker(10 * time.Millisecond)
			defer drip.Stop()
			for range 10_000 {
				select {
				case <-c.Done():
					return
				case <-drip.C: // bytes that never become a frame are no sign of life
					peer.say([]byte{0})
				}
			}
			t.Error("the connection lives on")
		})
	}
}

func TestAPeerThatSaysSomethingAfterThePingAndThenNothingIsFoundDead(t *testing.T) {
	a, b := sockets(t)
	defer b.Close()
	c := ServerConn(a, Options{Idle: 20 * time.Millisecond, PingWait: 50 * time.Millisecond})
	defer c.Wait()
	defer c.Close()
	b.Write(wire.AppendSettings([]byte(wire.Preface)))
	for kind := byte(wire.FrameSettings); kind != wire.FramePing; {
		var header [wire.HeaderSize]byte
		if _, err := io.ReadFull(b, header[:]); err != nil {
			t.Fatal(err)
		}
		f := wire.Parse(&header)
		io.CopyN(io.Discard, b, int64(f.Length))
		kind = f.Kind
	}
	b.Write(frame(wire.FrameWindow, 0, 0, "\x00\x00\x00\x01"))
	select {
	case <-c.Done():
	case <-time.After(timeout):
		t.Error("the connection lives on")
	}
}

func TestAPeerThatReadsNothingEndsTheConnection(t *testing.T) {
	a, b := sockets(t)
	defer b.Close()
	c := Client(a, Options{WriteWait: 50 * time.Millisecond})
	s := open(t, c)
	piece := make([]byte, 64<<10)
	b.Write(wire.AppendSettings(nil, wire.Setting{ID: wire.SettingInitialWindow, Value: wire.MaxWindow}))
	b.Write(wire.AppendWindow(nil, 0, wire.MaxWindow-wire.FirstWindow))
	for {
		if _, err := s.Write(piece); err != nil {
			break
		}
	}
	<-c.Done()
	c.Wait()
}
