package webtest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"

	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
)

// TestTheSessionOfTheREADMEByClicking is the README's: a mesh, an invitation, a tunnel, a fetch, a
// terminal, a file, an eviction.
func TestTheSessionOfTheREADMEByClicking(t *testing.T) {
	w := newWorld(t, program)
	w.agent("laptop")
	w.agent("office")
	laptop, office := newTab(t, w.console("laptop")), newTab(t, w.console("office"))
	root, err := os.ReadFile(filepath.Join(w.dir, "root.json"))
	if err != nil {
		t.Fatal(err)
	}
	laptop.join("laptop", string(root))
	laptop.sees("connected", "as laptop, user root")

	laptop.open("users")
	laptop.click("Invite")
	laptop.fill("User", "bob")
	laptop.sees("ztm invite bob --permit bob.json")
	laptop.shot("invite")
	laptop.click("Invite")
	laptop.sees("It is secret until it is used.")
	permit := eval[string](laptop, `document.querySelector('dialog textarea').value`)
	eval[bool](laptop, `(document.querySelector('.qr').scrollIntoView({block: 'center'}), true)`)
	if got := laptop.scan(); got != strings.TrimSpace(permit) {
		t.Errorf("a camera reads %q, and not the invitation", got)
	}
	laptop.shot("invitation")
	laptop.click("Close")
	office.join("office", permit)
	office.sees("as office, user bob")

	office.open("tunnels")
	office.click("Offer a service")
	office.fill("Name of the tunnel", "web")
	office.fill("Connect to", w.website("Hello from the office"))
	office.fill("Also for users", "root")
	office.click("Offer")
	office.sees("tcp/web", "bob, root")

	here := freeAddress(t)
	_, port, _ := net.SplitHostPort(here)
	laptop.open("tunnels")
	laptop.click("Open an entrance")
	laptop.fill("Name of the tunnel", "web")
	laptop.fill("Listen on", port)
	laptop.shot("entrance")
	laptop.click("Open")
	laptop.sees(here)
	laptop.click("Test")
	laptop.sees("office lets us")
	if got := fetch(t, here); got != "Hello from the office\n" {
		t.Errorf("through the tunnel: %q", got)
	}
	laptop.shot("tunnels")

	laptop.open("terminal")
	laptop.click("Open a terminal")
	laptop.click("Open")
	laptop.sees("root@laptop")
	laptop.types("echo hello-$((40+2))\r")
	laptop.screen("hello-42")
	laptop.shot("terminal")

	laptop.open("users")
	laptop.sees("bob")
	laptop.click("Evict")
	laptop.sees("lose all access at once, everywhere", "ztm evict bob")
	laptop.shot("evict")
	laptop.click("Evict bob")
	laptop.sees("Who", "bob")
	office.open("")
	office.sees("This endpoint is not connected")
	laptop.clean()
	office.clean("503", "403", "429", "502", "504") // what the page is told after the eviction
}

// join joins a mesh by the form of a device that is in none.
func (b *tab) join(name, permit string) {
	b.t.Helper()
	b.sees("This device is in no mesh yet")
	b.click("Join a mesh")
	b.fill("Name of the mesh", "demo")
	b.fill("Name of this device", name)
	b.fill("Invitation", permit)
	b.click("Join a mesh")
	b.sees("Topology")
}

func fetch(t *testing.T, address string) string {
	t.Helper()
	resp, err := http.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	http.DefaultClient.CloseIdleConnections()
	return string(body)
}

// types types into the terminal.
func (b *tab) types(text string) {
	b.t.Helper()
	waitFor(b.t, "the terminal takes input", func() bool {
		return eval[bool](b, `(() => { const e = document.querySelector('.xterm-helper-textarea'); e?.focus(); return document.activeElement === e && e !== null })()`)
	})
	for _, r := range text {
		b.press(r)
	}
}

// press presses a key as a keyboard does: the browser makes a character of it unless the page has
// used the key.
func (b *tab) press(r rune) {
	b.t.Helper()
	down := input.DispatchKeyEventParams{Type: input.DispatchKeyEventTypeKeyDown, Key: string(r), Text: string(r), WindowsVirtualKeyCode: 186}
	switch {
	case r == '\r':
		down.Key, down.Code, down.WindowsVirtualKeyCode = "Enter", "Enter", 13
	case r == ' ':
		down.Code, down.WindowsVirtualKeyCode = "Space", 32
	case r < ' ': // with Ctrl
		letter := string(r + 'A' - 1)
		down.Key, down.Text, down.Code, down.Modifiers, down.WindowsVirtualKeyCode = strings.ToLower(letter), "", "Key"+letter, 2, int64(letter[0])
	}
	up := down
	up.Type, up.Text = input.DispatchKeyEventTypeKeyUp, ""
	for _, p := range []input.DispatchKeyEventParams{down, up} {
		if _, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, p); err != nil {
			b.t.Fatal(err)
		}
	}
}

// screen waits until a text is in the terminal.
func (b *tab) screen(text string) {
	b.t.Helper()
	shown := ""
	defer func() {
		if b.t.Failed() {
			b.t.Logf("the terminal shows %q", shown)
		}
	}()
	waitFor(b.t, text+" is in the terminal", func() bool {
		shown = b.rows()
		return strings.Contains(shown, text)
	})
}

// rows is what the terminal shows.
func (b *tab) rows() string {
	return eval[string](b, `document.querySelector('.xterm-rows')?.innerText.replaceAll('\u00a0', ' ') ?? ''`)
}

// interrupted waits until there is a prompt behind the nth ^C: a shell may lose what is typed before.
func (b *tab) interrupted(n int) {
	b.t.Helper()
	waitFor(b.t, "there is a prompt behind ^C", func() bool {
		parts := strings.Split(b.rows(), "^C")
		return len(parts) > n && strings.Contains(parts[len(parts)-1], "#")
	})
}

// one starts a mesh of one agent and a tab of it.
func one(t *testing.T, options ...string) (*world, *tab) {
	t.Helper()
	w := newWorld(t, program)
	w.agent("laptop")
	w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
	b := newTab(t, w.console("laptop", options...))
	b.sees("as laptop, user root")
	return w, b
}

func TestATerminalOutlivesTheReloadOfItsPageAndTakesAnInputMethod(t *testing.T) {
	_, b := one(t)
	b.open("terminal")
	b.click("Open a terminal")
	b.click("Open")
	b.types("MARK=kept-alive; stty size; echo ready-$((1+1))\r")
	b.screen("ready-2")
	b.do(chromedp.Reload())
	b.sees("root@laptop", "Terminal")
	b.types("echo $MARK-$((2+2))\r")
	b.screen("kept-alive-4")

	// An input method is on: keys have the code 229, and nothing is composed.
	b.types("echo runs-$((5+5)); sleep 100\r")
	b.screen("runs-10") // a shell that has not begun would lose the line, or the key
	b.key229("KeyC", "c", 2)
	b.interrupted(1)
	b.types("echo after-$((3+3))\r")
	b.screen("after-6")
	b.types("echo reads-$((6+6)); cat >/dev/null; echo escape-$((4+4))\r")
	b.screen("reads-12")
	b.key229("Escape", "Escape", 0)
	b.key229("KeyC", "c", 2)
	b.interrupted(2)
	b.types("clear\r")
	b.gone("after-6")
	b.types("echo 1-")
	b.screen("# echo 1-")
	if _, err := chromedp.Call(b.ctx, input.ImeSetComposition, input.ImeSetCompositionParams{Text: "ni hao", SelectionStart: 6, SelectionEnd: 6}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(b.ctx, input.InsertText, input.InsertTextParams{Text: "你好"}); err != nil {
		t.Fatal(err)
	}
	b.types("-2\r")
	b.screen("\n1-你好-2")
	b.shot("input-method")
	b.clean()
}

// key229 presses a key as a browser tells it while an input method is on.
func (b *tab) key229(code, key string, modifiers int64) {
	b.t.Helper()
	for _, kind := range []input.DispatchKeyEventType{input.DispatchKeyEventTypeRawKeyDown, input.DispatchKeyEventTypeKeyUp} {
		if _, err := chromedp.Call(b.ctx, input.DispatchKeyEvent, input.DispatchKeyEventParams{Type: kind, Code: code, Key: key, WindowsVirtualKeyCode: 229, Modifiers: modifiers}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestARecordingIsReplayedAsItWasShown records a terminal, saves that, and plays it.
func TestARecordingIsReplayedAsItWasShown(t *testing.T) {
	w, b := one(t)
	b.open("terminal")
	b.click("Open a terminal")
	b.click("Open")
	b.types("echo before-$((1+1))\r")
	b.screen("before-2")
	b.click("Record")
	b.sees("recording")
	b.types("echo within-$((2+2)); read -s x; echo got\r")
	b.screen("within-4")
	b.types("secret-word\r")
	b.screen("got")
	eval[bool](b, `URL.createObjectURL = blob => { blob.text().then(x => { window.saved = x }); return 'about:blank' }, HTMLAnchorElement.prototype.click = () => {}, true`)
	b.click("Save the recording")
	waitFor(t, "it is saved", func() bool { return eval[bool](b, `Boolean(window.saved)`) })
	cast := eval[string](b, `window.saved`)
	if !strings.HasPrefix(cast, `{"version":2,`) || strings.Contains(cast, "secret-word") {
		t.Errorf("the recording: %.300s", cast)
	}
	b.types("clear\r")
	b.gone("within-4")
	for name, text := range map[string]string{"demo.cast": cast, "broken.cast": "{\"version\":2}\n[1,\"o\"]\n"} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b.open("files")
	b.inRow("broken.cast", "Play")
	b.sees("This is no recording of a terminal.")
	b.inRow("demo.cast", "Play")
	b.sees("a recording", "Speed")
	b.screen("before-2")
	b.screen("within-4")
	b.screen("got")
	b.sees("Play") // it has ended
	b.shot("replay")
	b.clean("about:blank")
}

// inRow clicks a button in the row of a table that begins with a name.
func (b *tab) inRow(name, button string) {
	b.t.Helper()
	waitFor(b.t, "there is "+button+" for "+name, func() bool {
		return eval[bool](b, `(() => {
			const r = [...document.querySelectorAll('tr')].find(r => r.cells[0].textContent === %s)
			const e = [...r?.querySelectorAll('button') ?? []].find(e => e.textContent === %s)
			e?.click()
			return Boolean(e)
		})()`, name, button)
	})
}

func TestWhatATerminalIsSentIsDrawnAndNotObeyed(t *testing.T) {
	_, b := one(t)
	b.open("terminal")
	b.click("Open a terminal")
	b.click("Open")
	eval[bool](b, `navigator.clipboard.writeText = async () => { window.taken = true }, window.open = () => { window.opened = true }, true`)
	b.types(`printf '\033]52;c;aGVsbG8=\007'; printf '\033]0;%0500d<img src=x onerror=alert(1)>\007' 7; printf '\033]8;;javascript:alert(1)\033\\link\033]8;;\033\\ \033P$qm\033\\'; echo; echo done-$((5+5))` + "\r")
	b.screen("done-10")
	if eval[bool](b, `Boolean(window.taken || window.opened)`) {
		t.Error("a program took the clipboard, or opened a page")
	}
	if n := eval[int](b, `document.querySelector('.tab button').textContent.length`); n > 64 {
		t.Errorf("a title of %d characters", n)
	}
	b.types("\x03head -c 10000000 /dev/zero | tr '\\0' y; echo; echo end-$((6+6))\r")
	b.screen("end-12") // 10 MB without a newline
	b.clean()
}

func TestFilesGoBothWaysAndAreNeverShown(t *testing.T) {
	w, b := one(t)
	big := make([]byte, 5<<20+12345)
	rand.Read(big)
	if err := os.MkdirAll(filepath.Join(w.dir, "pub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"big.bin": big, "a.html": []byte("<script>document.title='ran'</script>"), "a.svg": []byte("<svg/>"), "empty": nil} {
		if err := os.WriteFile(filepath.Join(w.dir, "pub", name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// What is saved is kept here, instead of in a directory of downloads.
	eval[bool](b, `window.saved = {}, HTMLAnchorElement.prototype.click = function () { const name = this.download; fetch(this.href).catch(() => {}); window.names = [...window.names ?? [], name] },
		URL.createObjectURL = blob => { blob.arrayBuffer().then(x => { window.saved[blob.size] = blob.type; window.last = new Uint8Array(x) }); return 'about:blank' }, true`)
	b.open("files")
	b.click("pub/")
	b.sees("big.bin", "a.html")
	for _, name := range []string{"big.bin", "a.html", "a.svg", "empty"} {
		before := eval[int](b, `(window.names ?? []).length`)
		b.inRow(name, "Save")
		waitFor(t, name+" is saved", func() bool { return eval[int](b, `(window.names ?? []).length`) > before })
		if name == "big.bin" {
			waitFor(t, "the content is there", func() bool { return eval[int](b, `window.last?.length ?? 0`) == len(big) })
			got := eval[string](b, `(async () => { const h = await crypto.subtle.digest('SHA-256', window.last); return btoa(String.fromCharCode(...new Uint8Array(h))) })()`)
			if got != sum(big) {
				t.Error("what was saved is not what is there")
			}
		}
	}
	if kinds := eval[string](b, `JSON.stringify([...new Set(Object.values(window.saved))])`); kinds != `["application/octet-stream"]` {
		t.Errorf("kinds of what was saved: %s", kinds)
	}
	if title := eval[string](b, `document.title`); title == "ran" {
		t.Error("a page of a peer has run")
	}

	eval[bool](b, `HTMLInputElement.prototype.click = function () {
		const bytes = new Uint8Array(3 * (1 << 20) + 77).map((_, i) => i * 7 + (i >> 8))
		const d = new DataTransfer(); d.items.add(new File([bytes], 'up.bin')); d.items.add(new File([], 'up.empty')); this.files = d.files; this.onchange() }, true`)
	b.click("Upload")
	b.sees("up.bin", "up.empty")
	want := make([]byte, 3<<20+77)
	for i := range want {
		want[i] = byte(i*7 + i>>8)
	}
	if got, err := os.ReadFile(filepath.Join(w.dir, "pub", "up.bin")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("what was sent is not what is there: %d bytes, %v", len(got), err)
	}
	b.shot("files")
	b.clean("about:blank")
}

func sum(b []byte) string {
	return base64.StdEncoding.EncodeToString(sha(b))
}

func TestAScriptRunsOnWhatWasChosen(t *testing.T) {
	_, b := one(t)
	b.open("script")
	b.fill("Script", "echo from-$((7*6)); echo to-stderr >&2; exit 3\n")
	b.sees("laptop")
	b.fill("laptop", "")
	b.click("Run")
	b.sees("from-42", "to-stderr", "ended with status 3")
	b.shot("script")
	b.clean()
}

func TestAPageThatOnlyLooksHasNothingToChange(t *testing.T) {
	w, b := one(t, "--read-only")
	b.sees("only looks")
	for _, p := range pages {
		b.open(p.path)
		b.sees(p.title)
		for _, word := range []string{"Invite", "Evict", "Offer a service", "Open an entrance", "Change", "Add a rule", "Add a route", "Run", "Leave", "Join a mesh", "Open a terminal", "Upload", "Save"} {
			if eval[bool](b, `[...document.querySelectorAll('button')].some(e => e.textContent.trim() === %s)`, word) {
				t.Errorf("page %q has a button %s", p.path, word)
			}
		}
	}
	b.open("files")
	b.sees("root.json")
	if out := w.ztm("laptop", "get", "tunnel"); strings.Contains(out, "web") {
		t.Error(out)
	}
	b.clean()
}

func TestThePageSaysThatTheAgentIsGoneAndComesBackToItsEnd(t *testing.T) {
	w := newWorld(t, program)
	cmd := w.agent("laptop")
	w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
	address := w.console("laptop")
	b := newTab(t, address)
	b.sees("as laptop, user root")
	cmd.Process.Signal(os.Interrupt)
	cmd.Process.Wait()
	b.sees("The agent does not answer.")
	w.agent("laptop")
	_, port, _ := strings.Cut(strings.TrimPrefix(address, "http://127.0.0.1"), ":")
	port, _, _ = strings.Cut(port, "/")
	again := strings.TrimSpace(w.ztm("laptop", "console", "--no-open", "--port", port))
	b.sees("This page is signed out") // the key of the agent that was is worthless
	b.do(chromedp.Navigate(again))
	b.sees("as laptop, user root")
	if hash := eval[string](b, `location.href + history.length + JSON.stringify(performance.getEntriesByType('navigation').map(e => e.name))`); strings.Contains(hash, again[len(again)-10:]) {
		t.Errorf("the code is still in the address: %s", hash)
	}
	w.ztm("laptop", "console", "--lock")
	b.sees("The agent does not answer.")
	for _, name := range []string{"laptop.log", "hub.log"} {
		log, _ := os.ReadFile(filepath.Join(w.dir, name))
		if bytes.Contains(log, []byte(again[len(again)-26:])) {
			t.Errorf("the code is in %s", name)
		}
	}
}
