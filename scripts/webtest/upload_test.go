package webtest

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

const mib = 1 << 20

// TestAnUploadThatWasCutOffGoesOnWhereItStopped cuts an upload twice: what is there is not sent again,
// but for what somebody has changed there meanwhile.
func TestAnUploadThatWasCutOffGoesOnWhereItStopped(t *testing.T) {
	w, b := one(t)
	const size = 6*mib + 77
	want := make([]byte, size)
	for i := range want {
		want[i] = byte(i*7 + i>>8)
	}
	w.write("pub/other.txt", "")
	// window.left is how many bytes may leave before the connection breaks; window.sent is how many did.
	eval[bool](b, `(() => {
		const send = WebSocket.prototype.send
		window.left = 2.5 * (1 << 20)
		window.sent = 0
		WebSocket.prototype.send = function (m) {
			if (typeof m !== 'string') {
				window.sent += m.byteLength
				if (window.sent > window.left) return this.close()
			}
			send.call(this, m)
		}
		HTMLInputElement.prototype.click = function () {
			const bytes = new Uint8Array(%s).map((_, i) => i * 7 + (i >> 8))
			const d = new DataTransfer()
			d.items.add(new File([bytes], 'up.bin', { lastModified: 1e12 }))
			this.files = d.files
			this.onchange()
		}
		return true
	})()`, size)
	b.open("files")
	b.click("pub/")
	b.sees("other.txt")
	b.click("Upload")
	b.sees("connection lost", "Go on where it stopped")
	part := w.kept("pub")

	eval[bool](b, `(window.sent = 0, window.left = 2.5 * (1 << 20), true)`)
	b.click("Go on where it stopped")
	waitFor(t, "it breaks again", func() bool { return eval[bool](b, `window.sent > window.left`) })
	b.sees("Go on where it stopped")
	if after := w.kept("pub"); after <= part {
		t.Errorf("%d bytes are kept after the second attempt, and %d after the first", after, part)
	}

	eval[bool](b, `(window.sent = 0, window.left = Infinity, true)`)
	w.spoil("pub", mib+1)
	b.click("Go on where it stopped")
	w.until("the file is there", func() bool { _, err := os.Stat(filepath.Join(w.dir, "pub", "up.bin")); return err == nil })
	b.gone("Go on where it stopped")
	if got, err := os.ReadFile(filepath.Join(w.dir, "pub", "up.bin")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was sent is not what is there: %d bytes, %v", len(got), err)
	}
	if sent := eval[int](b, `window.sent`); sent < size-mib || sent > size {
		t.Errorf("%d bytes were sent; the first MiB was there, and the second was spoilt", sent)
	}
	b.clean()
}

// part returns what an upload has left in a directory.
func (w *world) part(dir string) string {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.dir, dir, ".*.part"))
	if err != nil || len(found) != 1 {
		w.t.Fatalf("parts: %v %v", found, err)
	}
	return found[0]
}

// kept waits until the agent has let go of the part, and returns how much it has kept.
func (w *world) kept(dir string) int64 {
	w.t.Helper()
	f, err := os.Open(w.part(dir))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	w.until("the agent has seen the end", func() bool { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil })
	info, err := f.Stat()
	if err != nil {
		w.t.Fatal(err)
	}
	return info.Size()
}

// spoil changes a byte of the part.
func (w *world) spoil(dir string, at int64) {
	w.t.Helper()
	f, err := os.OpenFile(w.part(dir), os.O_RDWR, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		w.t.Fatal(err)
	}
	b[0]++
	if _, err := f.WriteAt(b, at); err != nil {
		w.t.Fatal(err)
	}
}
