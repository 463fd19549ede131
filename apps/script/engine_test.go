//go:build linux && !ztm_router && !ztm_omit_js

package script

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/tunnel/answer"
)

func TestJavaScript(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/moved":
			http.Redirect(w, r, "/", http.StatusFound)
		case "/missing":
			http.NotFound(w, r)
		default:
			w.Header().Set("X-Test", "yes")
			json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "body": string(body), "h": r.Header.Get("H")})
		}
	}))
	defer server.Close()
	m := newMesh(t)
	dir := t.TempDir()
	tests := []struct {
		name, script string
		want         appstest.Result
	}{
		{"values are printed", `print("a", 1, true, null, undefined, [1, {b: "ü"}], new Error("e").message); console.log()`,
			appstest.Result{Out: "a 1 true null undefined [1,{\"b\":\"ü\"}] e\n\n"}},
		{"a #! line", "#!/usr/bin/env js\nprint('hi')", appstest.Result{Out: "hi\n"}},
		{"arguments", `print(args.length, args.join("|"))`, appstest.Result{Out: "3 x y|-z|a\xe9\xffb\n"}},
		{"the environment", `print(env.ZTM_USER, env.ZTM_SCRIPT_BRIDGE, Object.keys(env).includes("PATH"))`,
			appstest.Result{Out: "alice undefined true\n"}},
		{"lines of stdin", `print(readLine()); print(readLine(), readStdin().length, readLine())`, appstest.Result{Out: "one\n two 6 null\n"}},
		{"files", `const f = args[0] + "-" + "/f"; writeFile("` + dir + `/f", "grüße"); print(readFile("` + dir + `/f"), ` +
			`new Uint8Array(readFile("` + dir + `/f", "bytes")).length); writeFile("` + dir + `/g", new Uint8Array([1, 255]).buffer); ` +
			`print(readFile("` + dir + `/g", "bytes").byteLength)`, appstest.Result{Out: "grüße 7\n2\n"}},
		{"errors are thrown", `try { readFile("/no/such") } catch (e) { print(e.message) }`, appstest.Result{Out: "open /no/such: no such file or directory\n"}},
		{"bytes that are no characters", `const f = args[2]; writeFile("` + dir + `/" + f, f); print(exec("sh", ["-c", "ls -d " + f + "; echo $F"], ` +
			`{dir: "` + dir + `", env: {F: f}}).status, readFile("` + dir + `/" + f, "bytes").byteLength, f, "😀")`,
			appstest.Result{Out: "0 4 a\xe9\xffb 😀\n"}},
		{"exit", "try { exit(7) } finally { print('no') }\nprint('no')", appstest.Result{Status: 7}},
		{"programs", `const r = exec("sh", ["-c", "cat; echo $X >&2; pwd; exit 3"], {input: "in ", env: {X: "y"}, dir: "/"}); print(JSON.stringify(r))`,
			appstest.Result{Out: `{"status":3,"stdout":"in /\n","stderr":"y\n"}` + "\n"}},
		{"programs that die", `print(exec("sh", ["-c", "kill -9 $$"]).status)`, appstest.Result{Out: "137\n"}},
		{"programs that are missing", `try { exec("no-such") } catch (e) { print(e.message) }`, appstest.Result{Out: "exec: no-such: file does not exist\n"}},
		{"fetch", `const r = fetch("` + server.URL + `/moved"); print(r.status, r.ok, r.headers["x-test"], r.json().method); ` +
			`print(fetch("` + server.URL + `", {method: "post", body: "b", headers: {h: "1"}}).text()); print(fetch("` + server.URL + `/missing").ok)`,
			appstest.Result{Out: "200 true yes GET\n{\"body\":\"b\",\"h\":\"1\",\"method\":\"POST\"}\n\nfalse\n"}},
		{"async functions", `async function f() { return (await fetch("` + server.URL + `")).status } f().then(print)`, appstest.Result{Out: "200\n"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := m.run("one\n two\nthree\n", "--", file(t, "x.js", tt.script), "x y", "-z", "a\xe9\xffb")
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("script (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJavaScriptErrorsSayWhere(t *testing.T) {
	m := newMesh(t)
	tests := []struct {
		name, script string
		want         []string
	}{
		{"errors of our own functions", "\nfunction f() { readFile('/no/such') }\nf()", []string{"Error: open /no/such: no such file or directory\n", "f x.js:2", "x.js:3"}},
		{"uncaught errors", "#!js\nfunction f() {\n  throw new Error('boom')\n}\nf()", []string{"boom", "x.js:3", "x.js:5"}},
		{"wrong syntax", "print(1)\nlet x = ;", []string{"SyntaxError", "x.js", "2:9"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := m.run("", "--", file(t, "x.js", tt.script))
			if r.Status != 1 || r.Out != "" {
				t.Errorf("got %+v", r)
			}
			if strings.Contains(r.Err, "native") || strings.Contains(r.Err, "ztm/") {
				t.Errorf("it speaks of the engine: %s", r.Err)
			}
			for _, w := range tt.want {
				if strings.Count(r.Err, w) != 1 {
					t.Errorf("%q is not once in %q", w, r.Err)
				}
			}
		})
	}
}

func TestJavaScriptThatRunsForeverIsEnded(t *testing.T) {
	m := newMesh(t)
	script := file(t, "x.js", "print('ready'); while (true) {}")
	if r := m.run("", "--timeout=300ms", "--", script); r.Status != 124 {
		t.Errorf("got %+v", r)
	}
	out := interrupt("ready")
	err := command(&appstest.Console{Host: m.eps[0], Out: out}, "--", script)
	var exit *apps.ExitError
	if !errors.As(err, &exit) || exit.Status != 130 {
		t.Errorf("got %v", err)
	}
}

// tunnels is an app that stands for tunnels: "tcp/web" leads to a server.
type tunnels struct{ apps.App }

func (tunnels) Serve(_ context.Context, f apps.Flow) {
	if f.Path() != "tcp/web" {
		f.Refuse(answer.Errorf(answer.NotFound, "no tunnel %s", f.Path()))
		return
	}
	conn, err := f.Accept()
	if err != nil {
		return
	}
	done := make(chan struct{})
	served := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.(http.Flusher).Flush() // makes the answer one of unknown length
			fmt.Fprintf(w, "%s %s %s %d from %s", r.Method, r.Host, r.URL, len(body), f.Peer().User)
		}),
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(done)
			}
		},
	}
	served.Serve(&single{conn: conn})
	<-done
}

// single is a listener with one connection.
type single struct {
	conn net.Conn
	once sync.Once
}

func (s *single) Accept() (conn net.Conn, err error) {
	err = net.ErrClosed
	s.once.Do(func() { conn, err = s.conn, nil })
	return conn, err
}

func (s *single) Close() error { return nil }

func (s *single) Addr() net.Addr { return s.conn.LocalAddr() }

func TestFetchGoesThroughTheMeshForTheOwner(t *testing.T) {
	m := newMesh(t, "nas")
	m.eps[1].New("tunnel", func(apps.Host) apps.App { return tunnels{} })
	script := file(t, "x.js", `
		for (const u of ["http://web.nas.ztm/a?b=c", "http://web.nas.ztm/", "http://db.nas.ztm/", "http://web.none.ztm/", "http://nas.ztm/", "https://web.nas.ztm/"]) {
			try { print(fetch(u, {method: "PUT", body: "x".repeat(70000)}).text()) } catch (e) { print(e.message.replace(/^fetch \S+: /, "")) }
		}
		print(exec("sh", ["-c", "ls /proc/self/fd | tr '\\n' ' '"]).stdout)`)
	got := m.run("", "--", script)
	want := appstest.Result{Out: "PUT web.nas.ztm /a?b=c 70000 from alice\nPUT web.nas.ztm / 70000 from alice\n" +
		"no tunnel tcp/db\nendpoint \"none\" not found\nnas.ztm is not of the form NAME.EP.ztm\n" +
		"the mesh takes http alone; it seals what it carries\n0 1 2 3 \n"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("script (-want +got):\n%s", diff)
	}
	m.run("", "config", "--add-user=bob")
	r := m.at(m.phone, "", "--", file(t, "x.js", `try { fetch("http://web.nas.ztm/") } catch (e) { print(e.message) }`))
	if want := "fetch http://web.nas.ztm/: " + noBridge(bridgeGuest) + "\n"; r.Out != want {
		t.Errorf("a guest's script got %+v", r)
	}
}

func TestProgramOutsideTheMeshSaysHowToGetIn(t *testing.T) {
	js, ok := engine()
	if !ok {
		t.Fatal("no engine")
	}
	var out, errs bytes.Buffer
	status, err := js.run(t.Context(), file(t, "x.js", `fetch("http://web.nas.ztm/")`), nil, strings.NewReader(""), &out, &errs)
	if err != nil || status != 1 || !strings.Contains(errs.String(), noBridge("")) || !strings.Contains(noBridge(""), "ztm script FILE") {
		t.Errorf("status %d, %v: %s", status, err, errs.String())
	}
}
