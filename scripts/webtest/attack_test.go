package webtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// TestAPageOfAnotherPortNeitherReadsNorChangesAnything is a program of the same machine that shows a
// page in the same browser, while a console is open in it.
func TestAPageOfAnotherPortNeitherReadsNorChangesAnything(t *testing.T) {
	w, b := one(t)
	origin := eval[string](b, `location.origin`)
	cookies := make(chan string, 100)
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			cookies <- r.Header.Get("Cookie")
		}
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprint(rw, "<!doctype html><title>other</title><body></body>")
	}))
	defer other.Close()
	attacker := newTab(t, other.URL)
	if got := <-cookies; got != "" {
		t.Errorf("the other port was sent %q", got)
	}
	attacker.attacks(origin)
	if framed := eval[string](attacker, `new Promise(r => { const f = document.createElement('iframe'); f.src = %s; f.onload = () => { try { r(f.contentDocument?.body?.innerText ?? '') } catch { r('') } }; setTimeout(() => r(''), 3000); document.body.append(f) })`, origin); strings.Contains(framed, "ztm") {
		t.Errorf("a frame shows %q", framed)
	}
	if handle := eval[bool](attacker, `new Promise(r => { const x = window.open(%s); setTimeout(() => r(x === null || x.closed), 1500) })`, origin); !handle {
		t.Error("whoever opens the console has a hold of it")
	}
	if out := w.ztm("laptop", "get", "mesh"); !strings.Contains(out, "demo") {
		t.Errorf("meshes: %s", out)
	}
	b.clean()
}

// attacks tries all that a page may do to a console of another origin.
func (b *tab) attacks(origin string) {
	b.t.Helper()
	for name, attack := range map[string]string{
		"read":      `fetch(O + '/api/meshes', {credentials: 'include'}).then(r => r.text())`,
		"read page": `fetch(O + '/').then(r => r.text())`,
		"blind":     `fetch(O + '/api/meshes/demo', {method: 'POST', mode: 'no-cors', body: '{}'}).then(r => r.text())`,
		"header":    `fetch(O + '/api/meshes', {headers: {'Ztm-Console': 'x'}}).then(r => r.text())`,
		"socket":    `new Promise((ok, no) => { const s = new WebSocket(O.replace('http', 'ws') + '/live', ['ztm', 'ticket.x']); s.onopen = () => ok('open'); s.onerror = () => no('refused') })`,
		"events":    `new Promise((ok, no) => { const s = new EventSource(O + '/live'); s.onopen = () => ok('open'); s.onerror = () => { s.close(); no('refused') } })`,
		"script":    `new Promise((ok, no) => { const s = document.createElement('script'); s.src = O + '/pages/main.js'; s.onload = () => ok('loaded'); s.onerror = () => no('refused'); document.body.append(s) })`,
		"image":     `new Promise((ok, no) => { const s = new Image(); s.src = O + '/pages/icon.svg'; s.onload = () => ok('loaded'); s.onerror = () => no('refused') })`,
		"style":     `new Promise((ok, no) => { const s = document.createElement('link'); s.rel = 'stylesheet'; s.href = O + '/pages/console.css'; s.onload = () => ok('loaded'); s.onerror = () => no('refused'); document.head.append(s) })`,
		"module":    `import(O + '/pages/agent.js').then(m => 'loaded')`,
	} {
		got := eval[string](b, `(async () => { const O = %s; try { return await (`+strings.ReplaceAll(attack, "%", "%%")+`) } catch (e) { return '' } })()`, origin)
		if got != "" {
			b.t.Errorf("%s: got %.100q", name, got)
		}
	}
}

// TestWhatOthersWroteIsTextOnEveryPage has names and texts that would run, or hide, where a page made
// markup of them.
func TestWhatOthersWroteIsTextOnEveryPage(t *testing.T) {
	w, b := one(t)
	const evil = `<img src=x onerror=document.title="ran">`
	w.ztm("laptop", "tunnel", "open", "inbound", "tcp/web", "--listen", freeAddress(t))
	if err := os.MkdirAll(filepath.Join(w.dir, evil[:4]+"dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{evil, "right\u202eto-left", "two\nlines", strings.Repeat("A", 250), "javascript:alert(1)", "a&lt;b&gt;"} {
		name = strings.ReplaceAll(name, "/", "_")
		if err := os.WriteFile(filepath.Join(w.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Each text of the agent's answers becomes one of these, as a hostile hub or member could make it.
	source := `
		window.violations = []
		document.addEventListener('securitypolicyviolation', e => window.violations.push(e.violatedDirective + ' ' + e.blockedURI))
		const evil = ['` + evil + `', 'javascript:alert(1)', 'a\u202eb\u0000c\u200bd', 'A'.repeat(10000)]
		const kept = ['id', 'status', 'notAfter', 'type', 'user']
		const poison = (v, i = 0) => Array.isArray(v) ? v.map(poison) : v && typeof v === 'object' ? Object.fromEntries(Object.entries(v).map(([k, x], n) => [k, kept.includes(k) ? x : poison(x, n)])) :
			typeof v === 'string' && !/^\d{4}-/.test(v) ? evil[(v.length + i) % evil.length] : v
		const set = Object.getOwnPropertyDescriptor(WebSocket.prototype, 'onmessage').set
		Object.defineProperty(WebSocket.prototype, 'onmessage', { set(f) { set.call(this, m => {
			const d = typeof m.data === 'string' ? JSON.parse(m.data) : {}
			f(d.body && d.path !== '/api/meshes' ? { data: JSON.stringify({ ...d, body: poison(d.body) }) } : m) }) } })`
	if _, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: source}); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Reload())
	b.do(chromedp.EmulateViewport(390, 800))
	b.open("files")
	b.sees("right□to-left", "two", evil[:20])
	for _, p := range pages {
		b.open(p.path)
		b.sees(p.title)
		if p.path == "" {
			b.sees(evil)
		}
		if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
			t.Errorf("page %q scrolls sideways by %d px", p.path, over)
		}
	}
	if title := eval[string](b, `document.title`); title == "ran" {
		t.Error("a name has run")
	}
	if n := eval[int](b, `document.querySelectorAll('img, iframe, object, embed, body script').length`); n != 0 {
		t.Errorf("%d elements that no page of ours makes", n)
	}
	if v := eval[[]string](b, `window.violations`); len(v) > 0 {
		t.Errorf("the policy was violated: %v", v)
	}
	b.clean()
}
