package webtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

var (
	program string          // the ztm that is tested
	browser context.Context // one browser for all tests
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		fmt.Println("skipped: there is no chromium; Debian has it as a package of that name")
		return 0
	}
	dir, err := os.MkdirTemp("", "ztm-webtest-*")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = build(dir, "ztm_xterm", ""); err != nil {
		fmt.Println(err)
		return 1
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	defer stop()
	var cancel context.CancelFunc
	browser, cancel = chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(browser, chromedp.Navigate("about:blank")); err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// tab is a tab of the browser.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	faults []string // what the console of the browser complained about; guarded by mu
}

// newTab opens a tab at an address.
func newTab(t testing.TB, address string) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(browser)
	ctx, late := context.WithTimeout(ctx, 15*time.Minute)
	t.Cleanup(func() { late(); cancel() })
	b := &tab{t: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == "error" || m.Type == chromedp.ConsoleException || strings.Contains(m.Text, "Content Security Policy") {
				b.mu.Lock()
				b.faults = append(b.faults, m.Text)
				b.mu.Unlock()
			}
		}
	}()
	b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(address))
	return b
}

// clean fails the test if the browser has complained, but for what is expected.
func (b *tab) clean(expected ...string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, f := range b.faults {
		for _, e := range expected {
			if strings.Contains(f, e) {
				continue next
			}
		}
		b.t.Errorf("the browser complains: %s", f)
	}
	b.faults = nil
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.t.Fatal(err)
	}
}

// call sends the browser a command of its protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	r, err := chromedp.Call(b.ctx, command, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// eval runs JavaScript and waits for its promise.
func eval[T any](b *tab, format string, args ...any) T {
	b.t.Helper()
	quoted := make([]any, len(args))
	for i, a := range args {
		q, _ := json.Marshal(a)
		quoted[i] = string(q)
	}
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](fmt.Sprintf(format, quoted...), chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", format, err)
	}
	return v
}

// text is what a person reads; nothing while the page comes.
func (b *tab) text() string { return eval[string](b, `document.body?.innerText ?? ''`) }

// sees waits until a text is on the page.
func (b *tab) sees(texts ...string) {
	b.t.Helper()
	for _, want := range texts {
		if !within(func() bool { return strings.Contains(b.text(), want) }) {
			b.shot("failed")
			b.t.Fatalf("%q is not on the page:\n%s", want, b.text())
		}
	}
}

// gone waits until a text is off the page.
func (b *tab) gone(text string) {
	b.t.Helper()
	waitFor(b.t, text+" goes", func() bool { return !strings.Contains(b.text(), text) })
}

// click clicks the first button or link whose text it is, in the dialog if there is one.
func (b *tab) click(text string) {
	b.t.Helper()
	waitFor(b.t, "there is "+text+" to click", func() bool {
		return eval[bool](b, `(() => {
			const root = document.querySelector('dialog[open]') ?? document
			const e = [...root.querySelectorAll('button, a, summary, [role=link]')].find(e => (e.textContent.trim() === %s || e.getAttribute('aria-label') === %[1]s) && !e.disabled)
			e?.scrollIntoView({block: 'center'})
			if (e?.click) e.click()
			return Boolean(e)
		})()`, text)
	})
}

// fill types into a field by its label.
func (b *tab) fill(label, value string) {
	b.t.Helper()
	waitFor(b.t, "there is a field "+label, func() bool {
		return eval[bool](b, `(() => {
			const root = document.querySelector('dialog[open]') ?? document
			const l = [...root.querySelectorAll('label')].find(l => l.textContent.trim().startsWith(%s))
			const e = l && (l.control ?? document.getElementById(l.htmlFor))
			if (!e) return false
			e.focus()
			if (e.type === 'checkbox') { e.click(); return true }
			e.value = %s
			e.dispatchEvent(new Event('input', {bubbles: true}))
			e.dispatchEvent(new Event('change', {bubbles: true}))
			return true
		})()`, label, value)
	})
}

// open goes to a page of the console.
func (b *tab) open(page string) {
	b.t.Helper()
	eval[string](b, `location.hash = %s`, "#/"+page)
}

// look sets how the page is looked at.
func (b *tab) look(width int64, dark bool) {
	b.t.Helper()
	scheme := map[bool]string{false: "light", true: "dark"}[dark]
	b.do(chromedp.EmulateViewport(width, 900))
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
}

// shot keeps a picture of the page in out/.
func (b *tab) shot(name string) {
	b.t.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.MkdirAll("out", 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join("out", name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Error(err)
	}
}
