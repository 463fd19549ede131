//go:build linux

package terminal

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
)

func TestRecordingIsAnAsciicast(t *testing.T) {
	m := testMesh(t)
	dir := filepath.Join(t.TempDir(), "casts")
	m.must(t, "config", "--record="+dir)
	t.Setenv("TERM", "xterm")
	in, type_ := io.Pipe()
	defer type_.Close()
	out := &appstest.Watched{Text: "grüße", Do: func() { type_.Write([]byte("pass word\n")) }}
	err := run(&appstest.Console{Host: m.laptop, In: in, Out: out}, "open", "-t", "--", "office", "sh", "-c",
		`stty -echo; echo "grüße 🙂"; read x; i=0; while [ $i -lt 3000 ]; do printf 'ä€🙂'; i=$((i+1)); done; exit 4`)
	if exit := (*apps.ExitError)(nil); !errors.As(err, &exit) || exit.Status != 4 {
		t.Fatalf("got %v", err)
	}
	header, events := readCast(t, dir)
	header["timestamp"] = nil
	want := map[string]any{"version": 2.0, "width": 80.0, "height": 24.0, "timestamp": nil, "title": header["title"],
		"command": header["command"], "env": map[string]any{"TERM": "xterm", "SHELL": header["env"].(map[string]any)["SHELL"]}}
	if diff := cmp.Diff(want, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	text := ""
	for _, e := range events {
		if e[1] == "o" {
			text += e[2].(string)
		}
	}
	if want := "grüße 🙂\r\n" + strings.Repeat("ä€🙂", 3000); text != want {
		t.Errorf("recorded %d bytes, want %d: %.80q", len(text), len(want), text)
	}
	if strings.Contains(text, "pass word") {
		t.Error("input was recorded")
	}
	played(t, dir, text)
}

// played plays the only recording in a directory with the player of the format.
func played(t *testing.T, dir, want string) {
	t.Helper()
	for _, program := range []string{"asciinema", "script"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("%s is missing: no other program has played the recording", program)
			return
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.cast"))
	if err != nil || len(files) != 1 {
		t.Fatalf("recordings: %v, %v", files, err)
	}
	screen := filepath.Join(t.TempDir(), "screen")
	play := exec.Command("script", "-qec", `asciinema cat "$CAST" >"$SCREEN"`, os.DevNull) // the player wants a terminal
	play.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "CAST="+files[0], "SCREEN="+screen)
	out, err := play.CombinedOutput()
	if got, _ := os.ReadFile(screen); err != nil || string(got) != want {
		t.Errorf("asciinema played %d bytes, want %d: %v %s", len(got), len(want), err, out)
	}
}

// readCast reads the only recording in a directory, as a player does.
func readCast(t *testing.T, dir string) (header map[string]any, events [][]any) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*-alice-*.cast"))
	if err != nil || len(files) != 1 {
		t.Fatalf("recordings: %v, %v", files, err)
	}
	if st, err := os.Stat(files[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&header); err != nil {
		t.Fatal(err)
	}
	last := 0.0
	for d.More() {
		var e []any
		if err := d.Decode(&e); err != nil {
			t.Fatal(err)
		}
		at, ok := e[0].(float64)
		if len(e) != 3 || !ok || at < last {
			t.Fatalf("event %v after %v", e, last)
		}
		last = at
		events = append(events, e)
	}
	return header, events
}

func TestPipesAreRecordedInPart(t *testing.T) {
	m := testMesh(t)
	dir := t.TempDir()
	m.must(t, "config", "--record="+dir)
	if r := m.run(m.laptop, nil, "open", "--", "office", "head", "-c", "3000000", "/dev/zero"); len(r.Out) != 3000000 {
		t.Fatalf("%d bytes of output", len(r.Out))
	}
	_, events := readCast(t, dir)
	n := 0
	for _, e := range events {
		if e[1] == "o" {
			n += len(e[2].(string))
		}
	}
	if last := events[len(events)-1]; n != maxPiped || last[1] != "m" {
		t.Errorf("%d bytes recorded, the last event is %v", n, last)
	}
}

func TestWithoutARecordingThereIsNoSession(t *testing.T) {
	m := testMesh(t)
	dir := filepath.Join(t.TempDir(), "casts")
	m.must(t, "config", "--record="+dir)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := m.run(m.laptop, nil, "open", "--", "office", "echo", "hi")
	if r.Status != 126 || r.Out != "" {
		t.Errorf("got %+v", r)
	}
}

// FuzzSplit: a recording has the characters that were shown, wherever the output was cut.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("grüße 🙂"), 3)
	f.Add([]byte("\xf0\x9f"), 1)
	f.Fuzz(func(t *testing.T, p []byte, at int) {
		if len(p) == 0 {
			return
		}
		at = (at&0xffff)%len(p) + 1
		whole, part := split(p[:at])
		if len(whole)+len(part) != at || len(part) > 3 {
			t.Fatalf("split(%q) = %q, %q", p[:at], whole, part)
		}
		rest, last := split(append(bytes.Clone(part), p[at:]...))
		if got := string([]rune(string(whole))) + string([]rune(string(rest))) + string([]rune(string(last))); got != string([]rune(string(p))) {
			t.Errorf("%q cut at %d gave %q", p, at, got)
		}
	})
}
