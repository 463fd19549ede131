package h2

import (
	"testing"

	"ztm/tunnel/memory"
)

func TestWindowsAreSmallWhereMemoryIs(t *testing.T) {
	full := Tuning{ConnWindow: 4<<20 - 1, StreamWindow: 1 << 20, Frame: 32 << 10, MaxStreams: 1024}
	small := Tuning{ConnWindow: 512<<10 - 1, StreamWindow: 128 << 10, Frame: 16 << 10, MaxStreams: 128}
	for _, tt := range []struct {
		name  string
		limit memory.Limit
		want  Tuning
	}{
		{"unknown", memory.Limit{}, full},
		{"a server", memory.Limit{Bytes: 1 << 30}, full},
		{"a router", memory.Limit{Bytes: 64 << 20}, small},
		{"a small container", memory.Limit{Bytes: 128 << 20, Group: true}, small},
	} {
		if got := full.within(tt.limit); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
	tiny := Tuning{ConnWindow: 64 << 10, StreamWindow: 64 << 10, MaxStreams: 64}.within(memory.Limit{Bytes: 32 << 20})
	if tiny.ConnWindow != 64<<10 || tiny.StreamWindow != 64<<10 || tiny.MaxStreams != 64 {
		t.Errorf("too small to work: %+v", tiny)
	}
}
