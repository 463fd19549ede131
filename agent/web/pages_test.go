package web

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// modules are our pages, by name.
func modules(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := fs.ReadDir(ours, "pages")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := ours.ReadFile("pages/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// TestAFileThatIsCompressedReachesEveryBrowser holds for what a release has compressed.
func TestAFileThatIsCompressedReachesEveryBrowser(t *testing.T) {
	const text = "export const a = 1\n"
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(text))
	w.Close()
	from := fstest.MapFS{"packed.js": {Data: z.Bytes()}, "plain.js": {Data: []byte(text)}, "broken.js": {Data: z.Bytes()[:15]}}
	for _, tt := range []struct {
		name, accepts, encoding, body string
		status                        int
	}{
		{"packed.js", "br, gzip", "gzip", z.String(), 200}, {"packed.js", "", "", text, 200},
		{"plain.js", "gzip", "", text, 200}, {"broken.js", "", "", "404 page not found\n", 404}, {"none.js", "gzip", "", "404 page not found\n", 404},
	} {
		r, out := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.Header.Set("Accept-Encoding", tt.accepts)
		serveFile(out, r, from, tt.name, tt.name)
		if out.Code != tt.status || out.Body.String() != tt.body || out.Header().Get("Content-Encoding") != tt.encoding {
			t.Errorf("%s for a browser that takes %q: %d %q, %q", tt.name, tt.accepts, out.Code, out.Header().Get("Content-Encoding"), out.Body)
		}
	}
}

// TestNoPageTurnsTextIntoMarkupOrCode holds what the policy of the browser holds as well: nothing that
// a peer wrote can run.
func TestNoPageTurnsTextIntoMarkupOrCode(t *testing.T) {
	never := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|createContextualFragment|srcdoc|DOMParser|setAttribute\('(on|style)|javascript:|set(Timeout|Interval)\('|document\.cookie|serviceWorker`)
	for name, text := range modules(t) {
		for i, line := range strings.Split(text, "\n") {
			if never.MatchString(line) {
				t.Errorf("%s:%d: %s", name, i+1, line)
			}
		}
		if n := strings.Count(text, "\n"); n > 500 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
	index := modules(t)["index.html"]
	if inline := regexp.MustCompile(`<script[^>]*>[^<]|\son\w+=|style=|https?://`).FindString(index); inline != "" {
		t.Errorf("index.html has %q", inline)
	}
}

// TestEverySentenceIsInChinese finds sentences that the other language lacks, and those that nobody
// shows any longer.
func TestEverySentenceIsInChinese(t *testing.T) {
	shown, all := map[string]bool{}, modules(t)
	call := regexp.MustCompile(`\bt\('((?:[^'\\]|\\.)*)'`)
	for name, text := range all {
		for _, m := range call.FindAllStringSubmatch(text, -1) {
			if name != "words.js" && name != "zh.js" {
				shown[m[1]] = true
			}
		}
	}
	_, reasons, _ := strings.Cut(all["parts.js"], "const reasons = {")
	reasons, _, _ = strings.Cut(reasons, "\n}")
	for _, m := range regexp.MustCompile(`: '([^']*)'`).FindAllStringSubmatch(reasons, -1) {
		shown[m[1]] = true
	}
	known := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^  '([^']*)': '([^']*)',$`).FindAllStringSubmatch(all["zh.js"], -1) {
		known[m[1]] = m[2]
	}
	values := regexp.MustCompile(`\{\w+\}`)
	for _, key := range slices.Sorted(maps.Keys(shown)) {
		text, ok := known[key]
		if !ok {
			t.Errorf("not in Chinese: %q", key)
			continue
		}
		a, b := values.FindAllString(key, -1), values.FindAllString(text, -1)
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			t.Errorf("%q has other values in Chinese: %q", key, text)
		}
	}
	for key := range known {
		if !shown[key] {
			t.Errorf("in Chinese, and shown nowhere: %q", key)
		}
	}
	if len(shown) < 100 {
		t.Errorf("only %d sentences were found", len(shown))
	}
}

// TestWhatTheFirstPageNeedsIsAskedForAtOnce holds that a browser does not find out module by module what
// the first page is made of.
func TestWhatTheFirstPageNeedsIsAskedForAtOnce(t *testing.T) {
	all, needed := modules(t), map[string]bool{}
	var follow func(string)
	follow = func(name string) {
		for _, m := range regexp.MustCompile(`(?m)^import .* from '\./([^']+)'$`).FindAllStringSubmatch(all[name], -1) {
			if !needed[m[1]] {
				needed[m[1]] = true
				follow(m[1])
			}
		}
	}
	follow("main.js")
	asked := map[string]bool{}
	for _, m := range regexp.MustCompile(`<link rel="modulepreload" href="/pages/([^"]+)">`).FindAllStringSubmatch(all["index.html"], -1) {
		asked[m[1]] = true
	}
	if !maps.Equal(asked, needed) {
		t.Errorf("index.html asks for %v; the first page needs %v", slices.Sorted(maps.Keys(asked)), slices.Sorted(maps.Keys(needed)))
	}
}

// TestEveryModuleIsThere follows the imports of the pages, so that a browser finds them all.
func TestEveryModuleIsThere(t *testing.T) {
	all, used := modules(t), map[string]bool{"main.js": true, "index.html": true, "console.css": true, "icon.svg": true}
	for name, text := range all {
		for _, m := range regexp.MustCompile(`(?m)(?:^import .*from |import\()'\./([^']+)'\)?`).FindAllStringSubmatch(text, -1) {
			if _, ok := all[m[1]]; !ok {
				t.Errorf("%s imports %s, which is not there", name, m[1])
			}
			used[m[1]] = true
		}
		for _, m := range regexp.MustCompile(`(?m)^import \{ ([^}]+) \} from '\./([^']+)'$`).FindAllStringSubmatch(text, -1) {
			for n := range strings.SplitSeq(m[1], ", ") {
				if !regexp.MustCompile(`export (async )?(function|const|class|let) ` + n + `\b`).MatchString(all[m[2]]) {
					t.Errorf("%s imports %s of %s, which has none", name, n, m[2])
				}
				if strings.Count(text, n) < 2 {
					t.Errorf("%s imports %s and does not use it", name, n)
				}
			}
		}
	}
	for name := range all {
		if !used[name] {
			t.Errorf("nobody imports %s", name)
		}
	}
}
