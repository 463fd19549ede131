package give

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/cloud/blocks"
	"ztm/apps/cloud/index"
	"ztm/apps/cloud/wire"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// zeros is a place with one content of zeros, which is being fetched.
type zeros struct{}

const size = 2000 * 4 << 20 // bytes: in blocks of 4 MiB

func (zeros) ByContent(blocks.Hash) []index.Row                     { return make([]index.Row, 1) }
func (zeros) Open(index.Row) (f *os.File, l blocks.List, err error) { return nil, nil, os.ErrNotExist }
func (zeros) Suspect(index.Row)                                     {}
func (zeros) ReadAt(p []byte, _ int64) (int, error)                 { clear(p); return len(p), nil }
func (z zeros) Fetched(blocks.Hash) (int64, blocks.Bitmap, blocks.List, io.ReaderAt) {
	hash := sha256.Sum256(make([]byte, blocks.Size(size)))
	return size, blocks.FullBitmap(blocks.Count(size)), bytes.Repeat(hash[:], blocks.Count(size)), z
}

func TestALargeBlockMayTakeLongerThanAPeerMayBeQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		go func() { // ends with near
			Serve(far, zeros{})
			far.Close()
		}()
		near.Write(wire.Request{Op: wire.Block}.Append(nil))
		a, err := wire.ReadAnswer(near, blocks.MaxBlock)
		if err != nil || a.Status != wire.OK || a.Length != 4<<20 {
			t.Fatalf("%+v, %v", a, err)
		}
		for left := a.Length; left > 0; left -= 1 << 20 {
			if _, err := io.CopyN(io.Discard, near, 1<<20); err != nil {
				t.Fatalf("%d bytes before its end: %v", left, err)
			}
			<-time.After(quiet - time.Minute)
		}
		begun := time.Now()
		if _, err := near.Read(make([]byte, 1)); err != io.EOF || time.Since(begun) > quiet {
			t.Errorf("then it is quiet: %v, after %v", err, time.Since(begun))
		}
	})
}
