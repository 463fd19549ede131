package h2

import (
	"testing"
	"time"

	"ztm/tunnel/memory"
)

// far is a round trip for which no window is too large, near one within a house.
const (
	far  = 300 * time.Millisecond
	near = time.Millisecond
)

func TestWindowsAreSmallWhereMemoryIs(t *testing.T) {
	for _, tt := range []struct {
		name            string
		limit           memory.Limit
		sealed, hub     int // windows of a connection
		stream, streams int // of a sealed session
		frame           int
	}{
		{"unknown", memory.Limit{}, mostWindow, mostWindow, mostWindow / 4, 1024, 2*16384 - 9},
		{"a large server", memory.Limit{Bytes: 64 << 30}, mostWindow, mostWindow, mostWindow / 4, 1024, 2*16384 - 9},
		{"a small server", memory.Limit{Bytes: 1 << 30}, mostWindow, 512 << 10, mostWindow / 4, 1024, 2*16384 - 9},
		{"a router", memory.Limit{Bytes: 64 << 20}, 512 << 10, 256 << 10, 128 << 10, 128, leastFrame},
		{"a small container", memory.Limit{Bytes: 128 << 20, Group: true}, 1 << 20, 256 << 10, 256 << 10, 128, leastFrame},
		{"hardly any", memory.Limit{Bytes: 8 << 20}, 256 << 10, 256 << 10, 64 << 10, 128, leastFrame},
	} {
		s, h := sealed(tt.limit, far), control(tt.limit, 2048, far)
		if s.ConnWindow != tt.sealed || s.StreamWindow != tt.stream || s.Frame != tt.frame || s.MaxStreams != tt.streams {
			t.Errorf("%s: sealed %+v, want windows of %d and %d, frames of %d, %d streams", tt.name, s, tt.sealed, tt.stream, tt.frame, tt.streams)
		}
		if h.ConnWindow != tt.hub || h.StreamWindow != tt.hub/2 {
			t.Errorf("%s: hub %+v, want a window of %d", tt.name, h, tt.hub)
		}
	}
}

func TestWindowsFillThePathToThePeerAndNoMore(t *testing.T) {
	for _, tt := range []struct {
		rtt  time.Duration
		want int
	}{
		{0, mostWindow / 4}, // unknown
		{1, mostWindow / 16},
		{near, mostWindow / 16},
		{10 * time.Millisecond, 2 * (mostWindow / 16)},
		{far, mostWindow / 4},
		{time.Hour, mostWindow / 4},
		{-1, mostWindow / 4},
	} {
		if got := sealed(memory.Limit{}, tt.rtt).StreamWindow; got != tt.want {
			t.Errorf("at %v a stream has %d bytes, want %d", tt.rtt, got, tt.want)
		}
	}
	if n, f := control(memory.Limit{}, 1, near).StreamWindow, control(memory.Limit{}, 1, far).StreamWindow; n != mostWindow/32 || f != mostWindow/2 {
		t.Errorf("a control session has %d bytes near and %d far", n, f)
	}
}
