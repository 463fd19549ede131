package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// typed runs a command line with an input.
func (w *world) typed(input, agent string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(append([]string{"ztm", "--data", w.path(agent)}, args...), strings.NewReader(input), &out, &errs)
	return out.String(), errs.String(), status
}

func TestAnInstalledAppBringsACommand(t *testing.T) {
	needsApps(t, "python3")
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	if _, errs, status := w.try("root", "guestbook"); status != 2 || !strings.Contains(errs, `unknown command "guestbook"`) {
		t.Errorf("before it is installed: status %d, %s", status, errs)
	}
	w.ztm("root", "app", "install", "--yes", example(t, "guestbook"))
	w.ztm("root", "app", "grant", "guestbook", "bob")
	w.ztm("root", "guestbook", "sign", "I was", "--here")
	if _, errs, status := w.typed("and I, too\n", "bob", "ep", "ep-root", "root/guestbook", "sign"); status != 0 {
		t.Errorf("bob signs: status %d, %s", status, errs)
	}
	if book, _, _ := w.typed(strings.Repeat("x", 1<<20), "root", "guestbook"); !strings.Contains(book, "root: I was --here\n") || !strings.HasSuffix(book, "bob: and I, too\n") {
		t.Errorf("the book says %q", book)
	}
	if out, errs, status := w.try("root", "guestbook", "burn"); status != 2 || out != "" || !strings.HasPrefix(errs, "usage: ztm guestbook") {
		t.Errorf("wrong usage: status %d, %q, %q", status, out, errs)
	}
	for _, help := range [][]string{{"help"}, {"ep", "ep-root", "--help"}} {
		if out := w.ztm("root", help...); !strings.Contains(out, "guestbook") || !strings.Contains(out, "Show the guest book, or sign it (an app of root)") {
			t.Errorf("ztm %v does not list the command", help)
		}
	}
	if out := w.completed("root", "gue"); !strings.HasPrefix(out, "guestbook\t") {
		t.Errorf("completion is %q", out)
	}
	if out := w.completed("root", "guestbook", ""); out != "" {
		t.Errorf("completion behind the command is %q", out)
	}
}

// completed is what the shell is offered for the last of the words.
func (w *world) completed(agent string, words ...string) string {
	var out bytes.Buffer
	run(append([]string{"ztm", "__complete", "--", "--data", w.path(agent)}, words...), nil, &out, io.Discard)
	return out.String()
}
