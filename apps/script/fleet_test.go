//go:build linux && !ztm_router && !ztm_omit_js

package script

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFiveEndpointsAtOnce(t *testing.T) {
	need(t, "python3")
	names := []string{"office", "ep-2", "ep-3", "ep-4", "ep-5"}
	m := newMesh(t, names[1:]...)
	scripts := map[string]string{
		"x.sh": "#!/bin/sh\nread line; echo \"$ZTM_USER $line $1\"; echo no >&2\n",
		"x.py": "import os, sys\nprint(os.environ['ZTM_USER'], input(), sys.argv[1])\nprint('no', file=sys.stderr)\n",
		"x.js": "print(env.ZTM_USER, readLine(), args[0])\nconsole.error('no')\n",
	}
	for name, text := range scripts {
		t.Run(name, func(t *testing.T) {
			var args []string
			for _, n := range names {
				args = append(args, "--ep="+n)
			}
			r := m.run("hello\n", append(args, "--", file(t, name, text), "arg")...)
			if r.Status != 0 || r.Failure != "" {
				t.Fatalf("got %+v", r)
			}
			for _, n := range names {
				if want := fmt.Sprintf("%-6s | alice hello arg\n", n); !strings.Contains(r.Out, want) {
					t.Errorf("%q is missing in:\n%s", want, r.Out)
				}
				if want := fmt.Sprintf("%-6s | no\n", n); !strings.Contains(r.Err, want) {
					t.Errorf("%q is missing in:\n%s", want, r.Err)
				}
				if !regexp.MustCompile(`(?m)^` + n + ` +0 +\d+\.\d`).MatchString(r.Out) {
					t.Errorf("%s is missing in the table:\n%s", n, r.Out)
				}
			}
		})
	}
}

func TestSomeOfManyFail(t *testing.T) {
	m := newMesh(t, "ep-2", "ep-3")
	m.eps[2].SetOnline(false)
	m.eps[0].SetLabels("router", "x")
	m.eps[1].SetLabels("router")
	m.eps[2].SetLabels("router")
	script := file(t, "x", "echo out; printf err >&2; [ $ZTM_ENDPOINT ] && ls -d /proc/self/fd/3 >/dev/null; exit $1")
	r := m.run("", "-o=json", "--label=router", "--ep=office", "--", script, "7")
	if r.Status != 1 {
		t.Errorf("got %+v", r)
	}
	var got []outcome
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Duration, got[i].ID = 0, ""
	}
	want := []outcome{
		{Endpoint: "office", Status: 7, Stdout: "out\n", Stderr: "err"},
		{Endpoint: "ep-2", Status: 7, Stdout: "out\n", Stderr: "err"},
		{Endpoint: "ep-3", Status: 1, Error: "endpoint " + string(m.eps[2].Self().ID) + " is offline"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if r := m.run("", "--label=nothing", "--", script); r.Failure != `no endpoint has the label "nothing"` {
		t.Errorf("got %+v", r)
	}
}

func TestNoMoreThanParallelRunAtOnce(t *testing.T) {
	m := newMesh(t, "ep-2", "ep-3", "ep-4", "ep-5")
	dir := t.TempDir()
	// Each leaves a mark while it runs, and counts the marks.
	script := file(t, "x", `mkdir $1/$$; sleep 0.1; ls $1 | wc -l; rmdir $1/$$`)
	r := m.run("", "--parallel=2", "--ep=office", "--ep=ep-2", "--ep=ep-3", "--ep=ep-4", "--ep=ep-5", "--", script, dir)
	counts := regexp.MustCompile(`\| (\d+)\n`).FindAllStringSubmatch(r.Out, -1)
	if len(counts) != 5 {
		t.Fatalf("got %+v", r)
	}
	for _, c := range counts {
		if c[1] != "1" && c[1] != "2" {
			t.Errorf("%s ran at once", c[1])
		}
	}
}

func TestOutputInAResultIsWhatWasWritten(t *testing.T) {
	m := newMesh(t)
	r := m.run("", "-o=json", "--ep=office", "--", file(t, "x", `printf 'text ü'; printf '\377\000' >&2`))
	var got []outcome
	if err := json.Unmarshal([]byte(r.Out), &got); err != nil || len(got) != 1 {
		t.Fatalf("%v: %+v", err, r)
	}
	if got[0].Stdout != "text ü" || got[0].Stderr != "\xff\x00" {
		t.Errorf("stdout %q, stderr %q", string(got[0].Stdout), string(got[0].Stderr))
	}
	if !strings.Contains(r.Out, `"text ü"`) {
		t.Errorf("text is no text in %s", r.Out)
	}
	c := capped{}
	c.Write([]byte(strings.Repeat("x", maxCapture-1) + "ü"))
	if b := c.bytes(); len(b) != maxCapture-1 {
		t.Errorf("the last of %d bytes is %q", len(b), string(b[len(b)-1:]))
	}
}
