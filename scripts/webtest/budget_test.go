package webtest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
)

// The budget of a page, in bytes of gzip.
const (
	maxStart    = 45 << 10  // what a browser loads before the first page is there
	maxTerminal = 150 << 10 // with a terminal
)

// TestWhatABrowserLoadsIsWithinTheBudget counts what a tab has loaded, in either language, and prints how
// long the first paint took and what the agent holds.
func TestWhatABrowserLoadsIsWithinTheBudget(t *testing.T) {
	w := newWorld(t, program)
	agent := w.agent("laptop")
	w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
	before := resident(t, agent.Process.Pid)
	b := newTab(t, w.console("laptop"))
	b.sees("as laptop, user root")
	for _, language := range []string{"en", "zh"} {
		eval[string](b, `localStorage['ztm-language'] = %s`, language)
		b.open("")
		b.do(chromedp.Reload())
		b.sees("ztm get hub")
		if n := b.loaded(t); n > maxStart {
			t.Errorf("in %s a browser loads %d bytes before it shows a page; the budget is %d", language, n, maxStart)
		} else {
			t.Logf("in %s a browser loads %d bytes before it shows a page", language, n)
		}
	}
	t.Log(b.paint())
	eval[string](b, `localStorage['ztm-language'] = 'en'`)
	b.do(chromedp.Reload())
	b.sees("What is wrong now")
	b.open("terminal")
	b.click("Open a terminal")
	b.click("Open")
	b.screen("#")
	if n := b.loaded(t); n > maxTerminal {
		t.Errorf("with a terminal a browser loads %d bytes; the budget is %d", n, maxTerminal)
	} else {
		t.Logf("with a terminal a browser loads %d bytes", n)
	}
	during := resident(t, agent.Process.Pid)
	w.ztm("laptop", "console", "--lock")
	t.Log(weighed(t))
	t.Logf("the agent holds %s before, %s with a console and a terminal, %s after", before, during, resident(t, agent.Process.Pid))
	b.clean("401", "ERR_CONNECTION_REFUSED", "WebSocket")
}

// paint loads the first page once more and says how long its parts took, in milliseconds since the bytes of
// the page were there. What is budgeted is the first paint.
func (b *tab) paint() string {
	b.t.Helper()
	call(b, performance.Enable, performance.EnableParams{})
	// The overview is there when its last heading is.
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `
		new MutationObserver((_, o) => {
			if (!document.querySelector('.topology .node')) return
			o.disconnect()
			performance.mark('overview')
		}).observe(document, { childList: true, subtree: true })`})
	b.do(chromedp.Reload())
	waitFor(b.t, "the page is painted", func() bool {
		return eval[bool](b, `['first-contentful-paint', 'overview'].every(n => performance.getEntriesByName(n).length)`)
	})
	parts := eval[string](b, `(() => {
		const came = performance.getEntriesByType('navigation')[0].responseEnd
		const after = name => Math.round(performance.getEntriesByName(name)[0].startTime - came)
		const loaded = performance.getEntriesByType('resource').filter(e => /\/pages\//.test(e.name)).map(e => e.responseEnd - came)
		return 'first paint ' + after('first-contentful-paint') + ' ms after the page came; its modules were there after ' + Math.round(Math.max(...loaded)) + ' ms, the overview after ' + after('overview') + ' ms'
	})()`)
	for _, x := range call(b, performance.GetMetrics, cdp.Empty{}).Metrics {
		switch x.Name {
		case "ScriptDuration", "LayoutDuration", "RecalcStyleDuration", "TaskDuration":
			parts += fmt.Sprintf(", %s %.0f ms", x.Name, 1000*x.Value)
		}
	}
	return parts
}

// weighed says how many bytes the console, and the terminal in it, add to the binary of the full profile.
func weighed(t *testing.T) string {
	t.Helper()
	size := func(tag string) int64 {
		bin, err := build(t.TempDir(), tag, "-s -w")
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(bin)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	without := size("ztm_omit_console")
	return fmt.Sprintf("the console adds %d KB to the binary, and %d KB with the terminal; a release has its pages compressed and is %d KB smaller",
		(size("")-without)/1000, (size("ztm_xterm")-without)/1000, saved(t)/1000)
}

// saved is how many bytes the pages are smaller by when they are compressed.
func saved(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "agent", "web", "pages", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n += len(b) - gzipped(t, bytes.NewReader(b))
	}
	return n
}

// gzipped is how many bytes of gzip something is.
func gzipped(t *testing.T, r io.Reader) int {
	t.Helper()
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err == nil {
		_, err = io.Copy(z, r)
		z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return packed.Len()
}

// loaded is how many bytes of gzip a tab has loaded.
func (b *tab) loaded(t *testing.T) (n int) {
	t.Helper()
	for _, address := range eval[[]string](b, `[location.origin + '/', ...performance.getEntriesByType('resource').map(e => e.name).filter(n => /\/(pages|xterm)\//.test(n))]`) {
		resp, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", address, resp.StatusCode)
		}
		n += gzipped(t, resp.Body)
		resp.Body.Close()
	}
	return n
}

// resident is the memory that a process holds, for people.
func resident(t *testing.T, pid int) string {
	t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return "an unknown amount"
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.Atoi(kib)
	return fmt.Sprintf("%.1f MB", float64(n)/1000)
}
