//go:build !ztm_router && !ztm_omit_js

package script

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/dop251/goja"

	"ztm/apps/process"
)

// apiHelp lists for people what a JavaScript program can call. All of it is synchronous.
const apiHelp = `The language is ECMAScript 5.1 and most of what came after it, without modules, timers and events. Beside its own
functions there are these. They return when they are done; what fails throws an Error.

print(value, ...)           a line on stdout: strings as they are, other values as JSON; also console.log
console.error(value, ...)   the same on stderr
args                        the arguments of the script, an array of strings
env                         the environment, an object
readFile(path)              a file as a string of UTF-8
readFile(path, "bytes")     a file as an ArrayBuffer
writeFile(path, data)       makes or replaces a file; data is a string, an ArrayBuffer or a typed array
readLine()                  the next line of stdin without its end; null after the last
readStdin()                 the rest of stdin as a string
exec(program, [arg, ...], {input, dir, env: {NAME: value}})
                            runs a program without a shell: {status, stdout, stderr}, of at most 16 MiB each; status
                            is 128 + N if signal N ended it
fetch(url, {method, headers: {NAME: value}, body})
                            an HTTP request from this endpoint: {status, ok, headers, text(), json(), bytes()}, of at
                            most 16 MiB; redirects are followed. http://NAME.EP.ztm/ goes through the mesh to the
                            tunnel tcp/NAME of endpoint EP, in scripts of the endpoint's own user
exit(status)                ends the program`

// api is the functions of apiHelp for one program.
type api struct {
	ctx    context.Context
	vm     *goja.Runtime
	p      *program
	in     *bufio.Reader
	client *http.Client
	mesh   *meshWay
}

func newAPI(ctx context.Context, vm *goja.Runtime, p *program) *api {
	a := &api{ctx: ctx, vm: vm, p: p, in: bufio.NewReader(p.in), mesh: &meshWay{conn: p.bridge, alone: p.alone}}
	a.client = &http.Client{Transport: a.mesh, Timeout: fetchTimeout}
	env := vm.NewObject()
	for _, kv := range p.env {
		name, value, _ := strings.Cut(kv, "=")
		env.Set(name, toJS(value))
	}
	print := func(values ...goja.Value) error { return a.print(p.out, values) }
	for name, v := range map[string]any{
		"args": vm.ToValue(vm.NewArray(anys(p.args)...)), "env": env, "print": print,
		"console": map[string]any{
			"log":   print,
			"error": func(values ...goja.Value) error { return a.print(p.errs, values) },
		},
		"readFile": a.readFile, "writeFile": a.writeFile, "readLine": a.readLine, "readStdin": a.readStdin,
		"exec": a.exec, "fetch": a.fetch,
		"exit": func(status int) { vm.Interrupt(errExit{status & 0xff}) },
	} {
		vm.Set(name, v) // fails for a name that is no identifier alone
	}
	return a
}

func (a *api) close() {
	a.client.CloseIdleConnections()
	if a.mesh.conn != nil {
		a.mesh.conn.Close()
	}
}

func anys(list []string) (out []any) {
	for _, s := range list {
		out = append(out, toJS(s))
	}
	return out
}

func (a *api) print(w io.Writer, values []goja.Value) error {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = fromJS(v)
		o, ok := v.(*goja.Object)
		if !ok || o.ClassName() == "Error" || o.ClassName() == "Function" {
			continue
		}
		if b, err := o.MarshalJSON(); err == nil {
			words[i] = string(b)
		}
	}
	_, err := io.WriteString(w, strings.Join(words, " ")+"\n")
	return err
}

// bytesOf returns the bytes of a string, an ArrayBuffer or a typed array.
func bytesOf(v goja.Value) ([]byte, error) {
	if v == nil || goja.IsUndefined(v) || goja.IsNull(v) {
		return nil, nil
	}
	switch x := v.Export().(type) {
	case string:
		return []byte(fromJS(v)), nil
	case goja.ArrayBuffer:
		return x.Bytes(), nil
	case []byte:
		return x, nil
	}
	return nil, errors.New("want a string or an ArrayBuffer")
}

func (a *api) readFile(path goja.Value, how string) (goja.Value, error) {
	b, err := os.ReadFile(textOf(path))
	if err != nil {
		return nil, err
	}
	if how == "bytes" {
		return a.vm.ToValue(a.vm.NewArrayBuffer(b)), nil
	}
	return a.vm.ToValue(string(b)), nil
}

func (a *api) writeFile(path, data goja.Value) error {
	b, err := bytesOf(data)
	if err != nil {
		return err
	}
	return os.WriteFile(textOf(path), b, 0o666)
}

// waiting runs f, which cannot be interrupted, until ctx ends. The result of f is lost then.
func waiting[T any](ctx context.Context, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

func (a *api) readLine() (goja.Value, error) {
	line, err := waiting(a.ctx, func() (string, error) { return a.in.ReadString('\n') })
	if errors.Is(err, io.EOF) && line == "" {
		return goja.Null(), nil
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return a.vm.ToValue(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")), nil
}

func (a *api) readStdin() (string, error) {
	b, err := waiting(a.ctx, func() ([]byte, error) { return io.ReadAll(a.in) })
	return string(b), err
}

// textOf returns a value of JavaScript for the system; "" if it was left out.
func textOf(v goja.Value) string {
	if v == nil || goja.IsUndefined(v) {
		return ""
	}
	return fromJS(v)
}

type execOptions struct {
	Input goja.Value            `json:"input"`
	Dir   goja.Value            `json:"dir"`
	Env   map[string]goja.Value `json:"env"`
}

func (a *api) exec(file goja.Value, args []goja.Value, o execOptions) (*goja.Object, error) {
	program := textOf(file)
	input, err := bytesOf(o.Input)
	if err != nil {
		return nil, err
	}
	env := a.p.env
	for name, value := range o.Env {
		env = append(env[:len(env):len(env)], name+"="+textOf(value))
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	if path, err := (&process.Account{Home: dir}).Find(program, env); err == nil {
		program = path
	} else {
		return nil, fmt.Errorf("exec: %s: %v", program, process.Cause(err))
	}
	words := []string{filepath.Base(program)}
	for _, w := range args {
		words = append(words, textOf(w))
	}
	var out, errs limited
	cmd := &exec.Cmd{Path: program, Args: words, Env: env, Dir: textOf(o.Dir),
		Stdin: bytes.NewReader(input), Stdout: &out, Stderr: &errs}
	status, err := a.wait(cmd)
	if err == nil && (out.over || errs.over) {
		err = fmt.Errorf("exec: %s wrote more than %d bytes", program, maxBody)
	}
	if err != nil {
		return nil, err
	}
	result := a.vm.NewObject()
	result.Set("status", status)
	result.Set("stdout", out.String())
	result.Set("stderr", errs.String())
	return result, nil
}

// wait runs a program to its end, or to that of ctx.
func (a *api) wait(cmd *exec.Cmd) (status int, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(a.ctx, func() { cmd.Process.Kill() })
	defer stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, err
	}
	return statusOf(cmd.ProcessState), nil
}

// limited is a buffer that takes maxBody bytes and drops the rest.
type limited struct {
	bytes.Buffer
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxBody {
		l.over = true
		return len(p), nil
	}
	return l.Buffer.Write(p)
}
