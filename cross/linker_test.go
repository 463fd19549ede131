package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// fails is a program that fails in two ways. Its functions are copied into their callers, as it is
// none of the packages that are compiled for size.
const fails = `package main

import "os"

type door struct{ open bool }

func (d *door) isOpen() bool {
	return d.open // TRAP
}

//go:noinline
func enter(d *door) {
	if d.isOpen() { // ASKED
		panic("nobody is there") // PANIC
	}
}

func visit[T any](v T, f func(T)) {
	f(v) // CALL
}

func main() {
	done := make(chan bool)
	go func() { // CREATED
		var d *door
		if len(os.Args) > 1 {
			d = &door{true}
		}
		visit(d, enter) // VISIT
		close(done)
	}()
	<-done
}
`

// lineOf returns the number of the program's line with that comment, as traces have it.
func lineOf(comment string) string {
	return "main.go:" + strconv.Itoa(1+strings.Count(fails[:strings.Index(fails, "// "+comment)], "\n"))
}

func TestATraceOfARouterHasNoLinesAndTheyAreFound(t *testing.T) {
	target, r := here(t, Router), release(t)
	r.Root = t.TempDir()
	for name, text := range map[string]string{"go.mod": "module fails\n\ngo 1.26\n", "main.go": fails} {
		if err := os.WriteFile(filepath.Join(r.Root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	exe := filepath.Join(t.TempDir(), "fails")
	if err := r.build(t.Context(), target, exe); err != nil {
		t.Fatal(err)
	}
	if program, err := os.ReadFile(exe); err != nil || !bytes.Contains(program, []byte("\x00main.visit[...]\x00")) || bytes.Contains(program, []byte("main.visit[go.shape")) {
		t.Errorf("%v; want names of functions without the types that they were compiled for", err)
	}
	lines, err := r.lines(t.Context(), target, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if calls, err := lines.copied(0); err != nil || len(calls) > 0 {
		t.Errorf("where no function is, a trace of another build has the calls %q, %v", calls, err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want []string // a frame each: function, place
	}{
		{"a panic", []string{"x"}, []string{"main.enter()", lineOf("PANIC"), "main.visit[...](...)", lineOf("CALL"), "main.main.func1()", lineOf("VISIT"), "created by main.main in goroutine 1", lineOf("CREATED")}},
		{"a signal", nil, []string{"main.(*door).isOpen(...)", lineOf("TRAP"), "main.enter()", lineOf("ASKED"), "main.visit[...](...)", lineOf("CALL"), "created by main.main in goroutine 1", lineOf("CREATED")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var trace bytes.Buffer
			cmd := exec.CommandContext(t.Context(), exe, tt.args...)
			cmd.Stderr = &trace
			var exit *exec.ExitError
			if err := cmd.Run(); !errors.As(err, &exit) || exit.ExitCode() != 2 {
				t.Fatalf("%v, want exit status 2", err)
			}
			if strings.Contains(trace.String(), ".go:") || !strings.Contains(trace.String(), "\nmain.enter()\n\t?:0 +0x") {
				t.Errorf("want functions and offsets, and no lines:\n%s", &trace)
			}
			var found strings.Builder
			if err := lines.write(&found, trace.String()); err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tt.want); i += 2 {
				_, frame, ok := strings.Cut(found.String(), "\n"+tt.want[i])
				_, place, _ := strings.Cut(frame, "\n\t")
				place, _, _ = strings.Cut(place, "\n")
				if !ok || !strings.Contains(place+" ", tt.want[i+1]+" ") {
					t.Errorf("%s: at %q, want %q", tt.want[i], place, tt.want[i+1])
				}
			}
			if t.Failed() {
				t.Log(found.String())
			}
		})
	}
}
