package webtest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// commands is what the console has told people to type: one command a line. A test of the root
// package holds that each of them is understood.
const commands = "commands.txt"

// TestTheCommandsThatPagesShowAreThoseThatAreChecked opens every dialog of every page.
func TestTheCommandsThatPagesShowAreThoseThatAreChecked(t *testing.T) {
	w := newWorld(t, program)
	w.agent("laptop")
	w.agent("nas")
	w.ztm("laptop", "join", "demo", "--as", "laptop", "--permit", "root.json")
	w.ztm("nas", "join", "demo", "--as", "nas", "--permit", "root.json")
	w.ztm("laptop", "invite", "bob", "--permit", "bob.json")
	w.agent("office")
	w.ztm("office", "join", "demo", "--as", "office", "--permit", "bob.json")
	w.ztm("laptop", "tunnel", "open", "inbound", "tcp/web", "--listen", "127.0.0.1:0")
	w.ztm("laptop", "tunnel", "open", "outbound", "tcp/ssh", "--targets", "127.0.0.1:22")
	w.ztm("laptop", "proxy", "config", "--add-target", "10.0.0.0/8", "--add-via", "*.corp.example.com=office")
	w.ztm("laptop", "proxy", "rules", "--users", "bob", "--targets", "10.0.0.1", "--action", "allow")
	w.write("nas/pub.txt", "published")
	w.ztm("laptop", "cloud", "config", "--local-dir", filepath.Join(w.dir, "cloud"))
	w.ztm("laptop", "cloud", "upload", filepath.Join(w.dir, "nas/pub.txt"))
	w.ztm("laptop", "cloud", "mirror", "photos", "--upload", "on")
	id := strings.Fields(w.ztm("laptop", "get", "ep", "-o", "json"))
	office := ""
	for i, word := range id {
		if word == `"office",` {
			office = strings.Trim(id[i-2], `",`)
		}
	}
	b := newTab(t, w.console("laptop"))
	b.sees("as laptop, user root", "office")
	seen := map[string]bool{}
	collect := func() {
		for _, c := range eval[[]string](b, `[...document.querySelectorAll('.line code')].map(e => e.textContent)`) {
			seen[strings.ReplaceAll(c, office, "ID")] = true
		}
	}
	// What acts at once, or leaves the page.
	const skipped = `['Run', 'Upload', 'Save', 'Go', 'Up', 'Test', 'Ping', 'Ask', 'Sign this page out', 'Next', 'Previous', 'Ask the other endpoints', 'Show what it changes']`
	for _, path := range []string{"", "endpoints", "endpoints/" + office, "tunnels", "proxy", "terminal", "script", "files", "cloud", "apps", "users", "policy", "audit", "settings"} {
		b.open(path)
		waitFor(t, path+" shows a command", func() bool {
			return eval[bool](b, `document.querySelectorAll('main .line code').length > 0 && !document.querySelector('main').innerText.includes('Loading…')`)
		})
		collect()
		n := eval[int](b, `(window.buttons = [...document.querySelectorAll('main button')].filter(e => e.innerText.trim() && !`+skipped+`.includes(e.innerText.trim()) && !e.classList.contains('link')), window.buttons.length)`)
		for i := range n {
			eval[bool](b, `(window.buttons[%s]?.click(), new Promise(r => setTimeout(() => r(true), 60)))`, i)
			collect()
			eval[bool](b, `(document.querySelector('dialog[open] .buttons button')?.click(), new Promise(r => setTimeout(() => r(true), 60)))`)
		}
	}
	b.keep(seen)
	b.clean()
}

// keep fails the test for a command that nobody checks yet, and adds it to the file.
func (b *tab) keep(seen map[string]bool) {
	b.t.Helper()
	known := map[string]bool{}
	text, err := os.ReadFile(commands)
	if err != nil {
		b.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		known[strings.TrimSpace(line)] = true
	}
	added := false
	for _, c := range slices.Sorted(maps.Keys(seen)) {
		if !known[c] {
			b.t.Errorf("a page shows `%s`, which was not in %s; it was added", c, commands)
			known[c], added = true, true
		}
	}
	if len(seen) < 20 {
		b.t.Errorf("only %d commands were seen", len(seen))
	}
	if added {
		if err := os.WriteFile(commands, []byte(strings.Join(slices.Sorted(maps.Keys(known)), "\n")+"\n"), 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestTheSameMeshGivesTheSamePicture asks the module itself.
func TestTheSameMeshGivesTheSamePicture(t *testing.T) {
	_, b := one(t)
	got := eval[[]string](b, `(async () => {
		const { nodes, positions } = await import('/pages/topology.js')
		const mesh = n => Array.from({ length: n }, (_, i) => ({ id: 'id' + (i * 7919 %% n), name: 'ep' + i, user: 'user' + i %% 9, online: i %% 3 > 0 }))
		const shuffled = list => [...list].sort((a, b) => (a.name + 'x').length - (b.name + 'x').length || (a.name < b.name ? 1 : -1))
		const faults = []
		for (const n of [1, 2, 3, 20, 60, 1000]) {
			const a = JSON.stringify(positions(nodes(mesh(n)))), c = JSON.stringify(positions(nodes(shuffled(mesh(n)))))
			if (a !== c) faults.push('another picture of ' + n)
			const list = positions(nodes(mesh(n)))
			if (n > 60 && list.length !== 9) faults.push(n + ' endpoints are ' + list.length + ' circles')
			if (n > 60 && list.reduce((s, x) => s + x.folded, 0) !== n) faults.push('some of ' + n + ' are missing')
			for (const x of list) for (const y of list) if (x !== y && Math.hypot(x.x - y.x, x.y - y.y) < 12) faults.push('two circles of ' + n + ' are one')
			for (const x of list) if (!(x.x > 10 && x.x < 750 && x.y > 10 && x.y < 450)) faults.push('a circle of ' + n + ' is outside')
		}
		return [...new Set(faults)]
	})()`)
	for _, f := range got {
		t.Error(f)
	}
}
