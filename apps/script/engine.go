//go:build !ztm_router && !ztm_omit_js

package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/dop251/goja"
)

// engine returns how to start our own JavaScript engine: this binary again, as `ztm script js`.
func engine() (interpreter, bool) {
	exe, err := self()
	if err != nil {
		return interpreter{}, false
	}
	return interpreter{name: engineName, path: exe, args: []string{name, engineName, "--"}, engine: true, help: apiHelp, run: runFile}, true
}

// program is a JavaScript program and what it was started with.
type program struct {
	name   string // for messages
	source []byte
	args   []string
	env    []string // "NAME=value"
	in     io.Reader
	out    io.Writer
	errs   io.Writer
	bridge net.Conn // into the mesh; nil if there is none
	alone  string   // why there is no bridge
}

// Status of a program that was interrupted: 128 + SIGINT.
const statusInterrupted = 130

// errExit is how exit(status) ends the program.
type errExit struct{ status int }

// run runs a program until it ends, calls exit or ctx ends, and returns its status.
//
// The language is ECMAScript 5.1 and most of what came after it, without modules, timers and
// events: a program runs from its first line to its last. What it can call besides the language's
// own is in apiHelp.
func (p *program) run(ctx context.Context) int {
	vm := goja.New()
	vm.SetFieldNameMapper(goja.TagFieldNameMapper("json", true))
	a := newAPI(ctx, vm, p)
	defer a.close()
	stop := context.AfterFunc(ctx, func() { vm.Interrupt(errExit{statusInterrupted}) })
	defer stop()
	_, err := vm.RunScript(p.name, string(script(p.source)))
	var stopped *goja.InterruptedError
	if errors.As(err, &stopped) {
		if exit, ok := stopped.Value().(errExit); ok {
			return exit.status
		}
	}
	if ctx.Err() != nil {
		return statusInterrupted
	}
	if err != nil {
		fmt.Fprintln(p.errs, describe(err))
		return 1
	}
	return 0
}

// script makes the #! line a comment; the lines keep their numbers.
func script(source []byte) []byte {
	source = bytes.TrimPrefix(source, []byte("\ufeff"))
	if bytes.HasPrefix(source, []byte("#!")) {
		source = append([]byte("//"), source[2:]...)
	}
	return source
}

// describe returns an error with the lines of the program that it passed through, without those of
// the engine.
func describe(err error) string {
	var thrown *goja.Exception
	if errors.As(err, &thrown) && len(thrown.Stack()) > 0 {
		var b strings.Builder
		b.WriteString(strings.Replace(strings.TrimSpace(fromJS(thrown.Value())), "GoError: ", "Error: ", 1))
		for _, f := range thrown.Stack() {
			if at := f.Position(); at.Line > 0 {
				fmt.Fprintf(&b, "\n\tat %s%s", strings.TrimPrefix(f.FuncName()+" ", " "), at)
			}
		}
		return b.String()
	}
	return strings.Replace(err.Error(), "SyntaxError: SyntaxError: ", "SyntaxError: ", 1) // the engine says it twice
}

// runFile runs the program in a file: it is the command `ztm script js`.
func runFile(ctx context.Context, file string, args []string, in io.Reader, out, errs io.Writer) (status int, err error) {
	source, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	shut(file)
	name := file
	if n := os.Getenv("ZTM_SCRIPT"); n != "" { // the file's own name says nothing
		name = n
	}
	p := &program{name: name, source: source, args: args, env: os.Environ(), in: in, out: out, errs: errs}
	state := os.Getenv(bridgeEnv)
	// Programs that the script starts must not inherit it.
	p.env = slices.DeleteFunc(p.env, func(kv string) bool { return strings.HasPrefix(kv, bridgeEnv+"=") })
	if p.alone = noBridge(state); state == bridged {
		if p.bridge, err = inherited(); err != nil {
			return 0, fmt.Errorf("bridge: %w", err)
		}
	}
	return p.run(ctx), nil
}
