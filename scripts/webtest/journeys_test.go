package webtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestATunnelIsSwitchedOffAndOnAgain(t *testing.T) {
	w, b := one(t)
	w.ztm("laptop", "tunnel", "open", "outbound", "tcp/web", "--targets", "127.0.0.1:1")
	b.open("tunnels")
	b.click("Switch off")
	b.sees("The settings stay.", "ztm tunnel set outbound tcp/web --off")
	b.click("Switch off tcp/web")
	b.sees("switched off", "Switch on")
	if out := w.ztm("laptop", "get", "outbound"); !strings.Contains(out, " off") {
		t.Error(out)
	}
	b.click("Switch on")
	b.click("Switch on tcp/web")
	b.sees("Switch off")
	if out := w.ztm("laptop", "get", "outbound"); strings.Contains(out, " off") {
		t.Error(out)
	}
	b.clean()
}

func TestTheProxyPageSaysWhereAConnectionWouldGo(t *testing.T) {
	w, b := one(t)
	w.ztm("laptop", "proxy", "config", "--add-target", "*.corp.example.com", "--add-direct", "here.example.com")
	b.open("proxy")
	for host, want := range map[string]string{
		"a.corp.example.com:443": "as the most specific target", "here.example.com": "by the route here.example.com",
		"an.other.net": "Nowhere: no exit serves an.other.net", "0x7f.1": "The request makes no sense.",
	} {
		b.fill("Host", host)
		b.sees("ztm proxy where " + host)
		b.click("Ask")
		b.sees(want)
	}
	b.shot("where")
	b.clean("400")
}

func TestFilesArePublishedFetchedAndSaved(t *testing.T) {
	w := newWorld(t, program)
	for _, name := range []string{"laptop", "nas"} {
		w.agent(name)
		w.ztm(name, "join", "demo", "--as", name, "--permit", "root.json")
		w.ztm(name, "cloud", "config", "--local-dir", filepath.Join(w.dir, "cloud-"+name))
	}
	laptop, nas := newTab(t, w.console("laptop")), newTab(t, w.console("nas"))
	laptop.open("cloud")
	laptop.click("Publish a file")
	laptop.sees("ztm cloud upload FILE")
	laptop.choose("report.txt", "a report")
	laptop.fill("Path", "papers/report.txt")
	laptop.sees("ztm cloud upload report.txt papers/report.txt")
	laptop.click("Publish")
	laptop.sees("/users/root/papers/report.txt", "in step")

	nas.open("cloud")
	nas.sees("/users/root/papers/report.txt", "not here")
	nas.click("Fetch")
	nas.sees("ztm cloud download /users/root/papers/report.txt -d")
	nas.click("Fetch")
	w.until("the file is at nas", func() bool {
		b, err := os.ReadFile(filepath.Join(w.dir, "cloud-nas", "users", "root", "papers", "report.txt"))
		return err == nil && string(b) == "a report"
	})
	eval[bool](nas, `URL.createObjectURL = blob => { blob.text().then(x => { window.saved = x }); return 'about:blank' }, HTMLAnchorElement.prototype.click = () => {}, true`)
	nas.inRow("/users/root/papers/report.txt", "Save")
	waitFor(t, "it is saved", func() bool { return eval[string](nas, `window.saved ?? ''`) == "a report" })

	nas.click("Keep a directory in step")
	nas.sees("ztm cloud mirror PATH")
	nas.fill("Path", "/users/root/papers")
	nas.click("Save")
	nas.sees("fetches", "no fault")
	laptop.inRow("/users/root/papers/report.txt", "Unpublish")
	laptop.click("Unpublish /users/root/papers/report.txt")
	laptop.sees("not published")
	nas.shot("cloud")
	laptop.clean()
	nas.clean("about:blank")
}

// choose gives the dialog a file.
func (b *tab) choose(name, content string) {
	b.t.Helper()
	eval[bool](b, `(() => {
		const e = document.querySelector('dialog[open] input[type=file]'), d = new DataTransfer()
		d.items.add(new File([%s], %s))
		e.files = d.files
		e.dispatchEvent(new Event('change', { bubbles: true }))
		return true
	})()`, content, name)
}

func TestAPolicyIsEditedAfterSeeingWhatItChanges(t *testing.T) {
	w, b := one(t)
	b.open("policy")
	b.sees("The mesh has no policy")
	b.click("Edit the policy")
	b.sees("Show what it changes", "ztm policy apply -f FILE --dry-run")
	grants := func(who string) string {
		return "ztm: policy/1\nusers: {alice: {}, bob: {}}\ngroups: {}\nendpoints: {office: {id: k5w2yq7n4hq3r6ab5c2d7e4f3g6hxyza}}\n" +
			"grants:\n- {name: ssh, who: [" + who + "], to: [tunnel/tcp/ssh], at: [office]}\ntests:\n- {can: " + who + ", to: tunnel/tcp/ssh, at: office}\n"
	}
	b.fill("The policy as a file", strings.Replace(grants("alice"), "can: ", "cannot: ", 1))
	b.click("Show what it changes")
	b.sees("tests do not hold")
	b.fill("The policy as a file", grants("alice"))
	b.click("Show what it changes")
	b.sees("Tests that hold: 1", "gains", "tunnel/tcp/ssh")
	b.shot("policy-change")
	b.click("Apply")
	b.sees("1 rights are given and 0 are taken.")
	b.click("Apply")
	b.sees("Version 1 is in force.")
	if out := w.ztm("laptop", "policy", "export"); !strings.Contains(out, "alice") || !strings.Contains(out, "tunnel/tcp/ssh") {
		t.Error(out)
	}
	b.click("Edit the policy")
	b.sees("Show what it changes")
	b.fill("The policy as a file", grants("bob"))
	b.click("Show what it changes")
	b.sees("gains", "loses")
	b.click("Discard")
	b.gone("Show what it changes")
	w.ztm("laptop", "group", "add", "ops", "bob", "--until", "8h")
	b.sees("ops", "bob – ")
	b.clean("400")
}
