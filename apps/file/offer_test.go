package file

import (
	"encoding/binary"
	"io"
	"net"
	"testing"

	"ztm/apps/rooted"
)

// FuzzOffer holds that what a peer offers is names below the inbox, and no more of them than are
// allowed.
func FuzzOffer(f *testing.F) {
	for _, s := range []string{`[{"path":"a/b","size":1}]`, `[{"path":"../x","size":1}]`, `[]`, `[{"path":"a","size":-1}]`, `{`} {
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...))
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, '['})
	f.Fuzz(func(t *testing.T, b []byte) {
		here, there := net.Pipe()
		go func() { // ends with the pipe
			there.Write(b)
			there.Close()
		}()
		defer here.Close()
		items, err := hear(here)
		if err != nil {
			return
		}
		if len(items) == 0 || len(items) > maxItems {
			t.Errorf("%d files are offered", len(items))
		}
		for _, i := range items {
			if p, err := rooted.ParsePath(string(i.Path)); err != nil || p.IsRoot() || i.Size < 0 {
				t.Errorf("%+v is offered", i)
			}
		}
		io.Copy(io.Discard, here)
	})
}
