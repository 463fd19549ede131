package webtest

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestADownloadThatRunsEndsWithTheRightToIt begins a download that cannot end by itself, and takes the
// right to it away.
func TestADownloadThatRunsEndsWithTheRightToIt(t *testing.T) {
	for name, end := range map[string]func(*world){
		"the console is locked": func(w *world) { w.ztm("phone", "console", "--lock") },
		"its user is evicted":   func(w *world) { w.ztm("laptop", "evict", "bob") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, program)
			for _, name := range []string{"laptop", "phone", "nas"} {
				w.agent(name)
			}
			w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
			w.ztm("laptop", "invite", "bob", "--permit", "bob.json", "--uses", "2")
			w.ztm("phone", "join", "demo", "--as", "phone", "--permit", "bob.json")
			w.ztm("nas", "join", "demo", "--as", "nas", "--permit", "bob.json")
			big := make([]byte, 4*mib)
			rand.Read(big)
			w.write("pub/note.txt", "small")
			if err := os.WriteFile(filepath.Join(w.dir, "pub", "big.bin"), big, 0o600); err != nil {
				t.Fatal(err)
			}
			b := newTab(t, w.console("phone"))
			b.sees("as phone, user bob")
			// The page says no longer that it has used something when it has some of the file: so it is sent no
			// more than a window.
			eval[bool](b, `(() => {
				const send = WebSocket.prototype.send
				WebSocket.prototype.send = function (m) { if (typeof m !== 'string' || !m.includes('took') || !document.querySelector('main progress')?.value) send.call(this, m) }
				window.saved = 0
				HTMLAnchorElement.prototype.click = function () { window.saved++ }
				return true
			})()`)
			b.open("files")
			b.choosesEndpoint("nas")
			b.click("pub/")
			b.sees("note.txt")
			b.inRow("big.bin", "Save")
			waitFor(t, "the download has come to where it waits", func() bool { return eval[int](b, `document.querySelector('main progress')?.value ?? 0`) > 0 })
			end(w)
			waitFor(t, "the download ends", func() bool { return eval[bool](b, `document.querySelector('main progress') === null`) })
			if text := b.text(); !strings.Contains(text, "connection lost") && !strings.Contains(text, "signed out") {
				t.Errorf("the page says %s", text)
			}
			if n := eval[int](b, `window.saved`); n != 0 {
				t.Error("the file was saved")
			}
		})
	}
}

// choosesEndpoint chooses the endpoint of the page of files.
func (b *tab) choosesEndpoint(name string) {
	b.t.Helper()
	waitFor(b.t, "there is "+name+" to choose", func() bool {
		return eval[bool](b, `(() => {
			const s = document.querySelector('main select'), o = [...s?.options ?? []].find(o => o.text === %s)
			if (!o) return false
			s.value = o.value
			s.dispatchEvent(new Event('change'))
			return true
		})()`, name)
	})
}
