package webtest

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestThePageOfAnAppOpensAtAnOriginOfItsOwn installs the chat of docs/examples, opens its page from the
// console by clicking, speaks in it, and has it attack the console.
func TestThePageOfAnAppOpensAtAnOriginOfItsOwn(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip(err)
	}
	w, b := one(t)
	chat, err := filepath.Abs(filepath.Join("..", "..", "docs", "examples", "chat"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := w.try("laptop", "app", "install", "--yes", chat); err != nil && strings.Contains(err.Error(), "--unconfined") {
		t.Skip(err)
	} else if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	origin := eval[string](b, `location.origin`)
	b.open("apps")
	b.sees("root/chat", "starts when somebody asks for it", "keep data of its own")
	b.inRow("root/chat", "Open its page")
	b.sees("ztm app open root/chat")
	b.click("Prepare it")
	b.sees("Open root/chat")
	b.shot("apps")
	eval[bool](b, `(document.querySelector('dialog a.button').target = '_self', true)`) // in this tab, so that the test follows
	b.click("Open root/chat")
	waitFor(t, "the page of the app", func() bool { return b.text() != "" && !strings.Contains(b.text(), "Open the app") })
	b.sees("Chat")
	if at := eval[string](b, `location.origin`); at == origin || !strings.HasPrefix(at, "http://127.") {
		t.Errorf("the page of the app has the origin %s", at)
	}
	eval[bool](b, `(document.getElementById('text').value = 'hello there', document.getElementById('form').requestSubmit(), true)`)
	b.sees("root: hello there")
	if kept := eval[string](b, `document.cookie + JSON.stringify({ ...sessionStorage }) + JSON.stringify({ ...localStorage })`); kept != "{}{}" {
		t.Errorf("the page of the app has %s", kept)
	}
	b.shot("app-page")
	b.clean()
	b.attacks(origin)

	console := newTab(t, w.console("laptop", "--port", origin[strings.LastIndex(origin, ":")+1:]))
	console.open("apps")
	console.sees("running")
	console.inRow("root/chat", "Stop")
	console.sees("ztm app stop root/chat")
	console.click("Stop: root/chat")
	console.sees("starts when somebody asks for it")
	console.inRow("root/chat", "Users")
	console.fill("Users", "bob")
	console.sees("ztm app grant root/chat bob")
	console.click("Save")
	console.sees("root, bob")
	console.inRow("root/chat", "Remove")
	console.click("Remove root/chat")
	console.sees("No app of others is installed at this endpoint.")
	console.clean()
	b.do(chromedp.Navigate("about:blank"))
}
