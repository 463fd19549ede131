package h2

import (
	"io"
	"net"
	"testing"

	"ztm/tunnel/h2/budget"
	"ztm/tunnel/h2/wire"
)

// FuzzServer: whatever a client sends after its preface, the server ends with the connection, and
// holds nothing of it.
func FuzzServer(f *testing.F) {
	settings := wire.AppendSettings(nil)
	head := func(id uint32, flags byte) []byte {
		block := []byte{0x83, 0x87, 0x84, 0x41, 1, 'p'} // POST https / authority p
		return append(wire.AppendHeader(nil, len(block), wire.FrameHeaders, wire.FlagEndHeaders|flags, id), block...)
	}
	data := append(wire.AppendHeader(nil, 3, wire.FrameData, wire.FlagEndStream, 1), "abc"...)
	for _, frames := range [][][]byte{
		{settings},
		{settings, head(1, wire.FlagEndStream)},
		{settings, head(1, 0), data},
		{settings, head(1, 0), wire.AppendReset(nil, 1, wire.Cancel)},
		{settings, wire.AppendWindow(nil, 0, 1<<20), wire.AppendPing(nil, 0, [8]byte{1}), wire.AppendGoAway(nil, 0, wire.NoError)},
	} {
		var all []byte
		for _, b := range frames {
			all = append(all, b...)
		}
		f.Add(all)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b := &budget.Budget{}
		near, far := net.Pipe()
		c := ServerConn(far, Options{Budget: b, Handler: func(s *Stream) {
			s.Respond(ok, false)
			io.Copy(s, struct{ io.Reader }{s})
			s.Close()
		}})
		go io.Copy(io.Discard, near) // ends with near
		near.Write(append([]byte(wire.Preface), in...))
		near.Close()
		c.Wait()
		if held := b.Held(); held != 0 {
			t.Errorf("%d bytes are held", held)
		}
	})
}
