package h2

import (
	"net/http"
	"time"

	"ztm/tunnel/memory"
)

// Tuning is what the two ends of a connection set. The zero value is not useful; start from
// [Control], [Hub] or [Sealed].
type Tuning struct {
	ConnWindow   int           // bytes the peer may send unread on the connection
	StreamWindow int           // bytes the peer may send unread on one stream
	Frame        int           // largest frame we read; clients only, for servers see leastFrame
	MaxStreams   int           // requests the peer may have open at once; servers only
	Table        int           // bytes of header compression state, each way; 0 means 4096
	PingAfter    time.Duration // silence after which we ask whether the peer lives
	PingTimeout  time.Duration // how long we wait for its answer
	WriteTimeout time.Duration // how long a write may make no progress at all
}

// FrameHeader is the size of a frame's header, in bytes (RFC 9113 section 4.1).
const FrameHeader = 9

// Frame is the size of the DATA frames that carry a busy flow from the exit to the entrance, in
// bytes: with its header a frame fills exactly two TLS records.
const Frame = 2*16384 - FrameHeader

// leastFrame is the largest frame that a server reads, in bytes, and the least that RFC 9113
// section 4.2 lets it be: a Go client keeps a buffer of this size for each open request.
const leastFrame = 16 << 10

// Control is an agent's end of the session with its hub, at such a round trip; 0 is unknown. There
// is little data, and at rest under 1 MB a day: one PING of 17 bytes every 45 s and its answer.
func Control(rtt time.Duration) Tuning { return control(memory.Here(), 128, rtt) }

// Hub is the other end, of which there are many: if 500 agents send as much as they may and nobody
// takes it, that is a quarter of the memory.
func Hub(rtt time.Duration) Tuning { return control(memory.Here(), 2048, rtt) }

func control(l memory.Limit, share int64, rtt time.Duration) Tuning {
	t := Tuning{
		Frame: leastFrame, MaxStreams: 64, Table: 1,
		PingAfter: 45 * time.Second, PingTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second,
	}
	t.ConnWindow = within(l, share, 256<<10)
	t.StreamWindow = toFill(rtt, t.ConnWindow/32, t.ConnWindow/2)
	return t
}

// Sealed is for the session between two agents at such a round trip; 0 is unknown. It carries the
// flows, and a dead peer is found within 15 s. A write that makes no progress is not an error
// there: the reader has stopped, and the writer waits. Four stalled flows (sixteen on a short path)
// fill the session's window until they are offloaded.
func Sealed(rtt time.Duration) Tuning { return sealed(memory.Here(), rtt) }

func sealed(l memory.Limit, rtt time.Duration) Tuning {
	t := Tuning{
		Frame: Frame, MaxStreams: 1024,
		PingAfter: 10 * time.Second, PingTimeout: 5 * time.Second,
	}
	if l.Small() {
		t.Frame, t.MaxStreams = leastFrame, t.MaxStreams/8
	}
	t.ConnWindow = within(l, 128, 256<<10)
	t.StreamWindow = toFill(rtt, t.ConnWindow/16, t.ConnWindow/4)
	return t
}

// mostWindow is the largest window that net/http sets, in bytes.
const mostWindow = 4<<20 - 1

// within returns the window of a connection in bytes: one in share of the memory, within bounds.
// What peers send and nobody takes is never more than that.
func within(l memory.Limit, share int64, least int) int {
	if l.Bytes == 0 {
		return mostWindow
	}
	return int(min(max(l.Bytes/share, int64(least)), mostWindow))
}

// wanted is how fast one stream should be able to be, in bytes a second, as far as its window goes.
// A flow that moves much leaves for a dedicated connection, whose window the kernel finds.
const wanted = 40 << 20

// toFill returns the window of a stream in bytes that keeps a path of such a round trip full: a
// power of two times least, so that few windows differ, and not over most. It is no larger than it
// must be, as streams that nobody reads take their windows away from the connection.
func toFill(rtt time.Duration, least, most int) int {
	if rtt <= 0 || rtt >= time.Second {
		return most
	}
	window := max(least, 64<<10)
	for window < most && int64(window) < int64(rtt)*wanted/int64(time.Second) {
		window *= 2
	}
	return min(window, most)
}

func (t Tuning) config() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:          t.MaxStreams,
		MaxReadFrameSize:              t.Frame,
		MaxReceiveBufferPerConnection: t.ConnWindow,
		MaxReceiveBufferPerStream:     t.StreamWindow,
		MaxDecoderHeaderTableSize:     t.Table,
		MaxEncoderHeaderTableSize:     t.Table,
		SendPingTimeout:               t.PingAfter,
		PingTimeout:                   t.PingTimeout,
		WriteByteTimeout:              t.WriteTimeout,
	}
}
