package webtest

import (
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"github.com/chromedp/chromedp"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func sha(b []byte) []byte { s := sha256.Sum256(b); return s[:] }

// pages are all pages of the console, and what each shows.
var pages = []struct{ path, title, chinese string }{
	{"", "Topology", "拓扑"}, {"endpoints", "Labels", "标签"}, {"tunnels", "Entrances", "入口"}, {"proxy", "Routes", "路由"}, {"terminal", "No terminal is open.", "没有打开的终端"},
	{"script", "Run by", "解释器"}, {"files", "Path", "路径"}, {"cloud", "Mirrors", "同步目录"}, {"apps", "To install one:", "安装应用"}, {"users", "Open invitations", "未使用的邀请"}, {"policy", "Groups", "谁可以访问"}, {"audit", "only what was refused or cut", "仅被拒绝或切断的"}, {"settings", "Appearance", "外观"},
}

// TestEveryPageInBothLanguagesThemesAndWidths looks at each page as people do: no complaint of the
// browser, no scrolling sideways, and nothing that keeps somebody out.
func TestEveryPageInBothLanguagesThemesAndWidths(t *testing.T) {
	axe := unpacked(t, filepath.Join("fetched", "axe.min.js.gz"))
	w := newWorld(t, program)
	w.agent("laptop")
	w.agent("office")
	w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
	w.ztm("laptop", "invite", "bob", "--permit", "bob.json")
	w.ztm("office", "join", "demo", "--as", "office", "--permit", "bob.json")
	w.ztm("office", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1", "--users", "root")
	w.ztm("laptop", "tunnel", "open", "inbound", "tcp/web", "--listen", freeAddress(t))
	w.ztm("laptop", "invite", "carol", "--permit", "carol.json")
	w.ztm("laptop", "proxy", "config", "--add-target", "10.0.0.0/8", "--add-via", "*.corp.example.com=office")
	b := newTab(t, w.console("laptop"))
	b.sees("as laptop, user root")
	for _, language := range []string{"en", "zh"} {
		eval[string](b, `localStorage['ztm-language'] = %s`, language)
		for _, dark := range []bool{false, true} {
			for _, width := range []int64{1280, 390} {
				b.look(width, dark)
				b.do(chromedp.Reload())
				for _, p := range pages {
					b.open(p.path)
					b.sees(map[string]string{"en": p.title, "zh": p.chinese}[language])
					name := fmt.Sprintf("%s-%s-%s-%d", strings.ReplaceAll("page-"+p.path, "page-overview", "page-"), language, map[bool]string{false: "light", true: "dark"}[dark], width)
					if p.path == "" {
						b.sees("office")
					}
					if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
						t.Errorf("%s scrolls sideways by %d px", name, over)
					}
					if !eval[bool](b, `(r => r.left >= 0 && r.right <= innerWidth)(document.querySelector('nav [aria-current]').getBoundingClientRect())`) {
						t.Errorf("%s does not show which page it is", name)
					}
					if high := eval[float64](b, `Math.min(20, ...[...document.querySelectorAll('.topology text')].map(e => e.getBoundingClientRect().height))`); high < 12 {
						t.Errorf("%s has text in its picture that is %.0f px high", name, high)
					}
					b.shot(name)
					b.axe(name, string(axe))
				}
			}
		}
	}
	b.clean()
}

// unpacked reads a file that scripts/web has fetched.
func unpacked(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatalf("%v: run `go run ./scripts/web -tests` first", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// axe fails the test for what is serious or critical.
func (b *tab) axe(name, script string) {
	b.t.Helper()
	found := eval[[]string](b, `(async () => {
		if (!window.axe) (0, eval)(%s)
		const r = await axe.run(document, { resultTypes: ['violations'] })
		return r.violations.filter(v => v.impact === 'serious' || v.impact === 'critical').map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + ' ' + (n.any[0]?.message ?? '')).join(' | '))
	})()`, script)
	for _, f := range found {
		b.t.Errorf("%s: %s", name, f)
	}
}
