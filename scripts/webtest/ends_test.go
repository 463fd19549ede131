package webtest

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestBothEndsOfATunnelAreInOnePicture opens the ends of a tunnel at three endpoints of two users, and
// looks at them from one.
func TestBothEndsOfATunnelAreInOnePicture(t *testing.T) {
	w := newWorld(t, program)
	for _, name := range []string{"laptop", "nas", "office"} {
		w.agent(name)
	}
	w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
	w.ztm("nas", "join", "demo", "--as", "nas", "--permit", "root.json")
	w.ztm("laptop", "invite", "bob", "--permit", "bob.json")
	w.ztm("office", "join", "demo", "--as", "office", "--permit", "bob.json")
	here, dead := freeAddress(t), freeAddress(t)
	w.ztm("nas", "tunnel", "open", "outbound", "tcp/web", "--targets", dead, "--check", "tcp")
	w.ztm("office", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:99", "--users", "root")
	w.ztm("laptop", "tunnel", "open", "inbound", "tcp/web", "--listen", here)
	w.ztm("nas", "tunnel", "open", "inbound", "tcp/far", "--listen", "127.0.0.1:0")

	b := newTab(t, w.console("laptop"))
	b.sees("as laptop, user root")
	b.open("tunnels")
	picture := func(tunnel string) string {
		return eval[string](b, `[...document.querySelectorAll('.ends')].find(e => e.querySelector('summary').textContent.startsWith(%s))?.innerText ?? ''`, tunnel)
	}
	waitFor(t, "the far ends and the fault of the target are in the picture", func() bool {
		p := picture("tcp/web")
		for _, want := range []string{"1 in, 2 out", "laptop", "● " + here, "nas", "✕ " + dead, "office", "its owner sees the targets"} {
			if !strings.Contains(p, want) {
				return false
			}
		}
		return strings.Contains(picture("tcp/far"), "No endpoint offers it.")
	})
	if p := picture("tcp/web"); strings.Contains(p, "127.0.0.1:99") {
		t.Errorf("the picture has a target of another user: %s", p)
	}
	b.shot("ends")
	b.look(390, true)
	if over := eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); over > 0 {
		t.Errorf("scrolls sideways by %d px", over)
	}
	b.shot("ends-390")
	eval[string](b, `localStorage['ztm-language'] = 'zh'`)
	b.look(1280, true)
	b.do(chromedp.Reload())
	b.sees("每条隧道的两端", "目标只有其所有者可见")
	b.shot("ends-zh")
	eval[string](b, `localStorage['ztm-language'] = 'en'`)
	b.look(1280, false)
	b.do(chromedp.Reload())
	b.sees("its owner sees the targets")
	b.click("nas") // the tables are of the endpoint that was clicked
	b.sees("Exits: services that nas offers")
	w.ztm("nas", "tunnel", "set", "outbound", "tcp/web", "--off")
	b.sees("switched off")
	b.clean()
}

// TestManyEndsOfATunnelAreFolded asks the module itself.
func TestManyEndsOfATunnelAreFolded(t *testing.T) {
	_, b := one(t)
	got := eval[string](b, `(async () => {
		const { gather } = await import('/pages/ends.js')
		const endpoints = Array.from({ length: 1000 }, (_, i) => ({ id: 'id' + i, name: 'ep' + i, user: 'user' + i %% 9, offers: ['tunnel/tcp/web', 'script/run', 'tunnel/udp/n' + i %% 3] }))
		return gather(endpoints, {}).map(x => [x.name, x.entrances.length, x.exits.length].join(' ')).join(', ')
	})()`)
	if want := "tcp/web 0 1000, udp/n0 0 334, udp/n1 0 333, udp/n2 0 333"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}
