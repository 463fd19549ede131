package main

import (
	"compress/gzip"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The library's tests know what its callers may expect.
func TestTheLibrarysOwnTestsPassWithOurSlices(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles tests of the standard library")
	}
	root, err := output(t.Context(), ".", "go", "env", "GOROOT")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "src", "slices", "sort_test.go")); err != nil {
		t.Skip("Go is installed without its tests")
	}
	overlay := filepath.Join(t.TempDir(), "overlay.json")
	sort := slices.IndexFunc(standIns, func(s standIn) bool { return s.in == "slices" }) // testing itself needs the others as they are
	lines := slices.DeleteFunc(slices.Clone(cuts), func(c cut) bool { return !strings.HasPrefix(c.file, "slices/") })
	if err := writeOverlay(overlay, root, standIns[sort:sort+1], lines, map[string]string{}); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-short", "-v", "-run", "Sort|Stab|MinMax|Delete|Contains|Index", "-overlay", overlay, "slices")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestStability") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestEachProfileHasItsOwnStandIns(t *testing.T) {
	r := release(t)
	for profile, want := range map[Profile]int{Full: 1, Router: len(standIns)} {
		text, err := os.ReadFile(r.Overlays[profile])
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(text), "ztm_"); got != want {
			t.Errorf("profile %s: %d files of ours, want %d", profile, got, want)
		}
	}
	for _, s := range standIns {
		if strings.HasPrefix(s.in, "crypto") || strings.Contains(s.in, "/crypto/") {
			t.Errorf("%s: what encrypts stays the library's", s.in)
		}
	}
}

func TestAReleaseHasThePagesOfTheConsoleCompressed(t *testing.T) {
	dir, replace := t.TempDir(), map[string]string{}
	if err := packPages(replace, dir, ".."); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join("..", "agent", "web", "pages", "main.js")
	want, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(replace[page])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || string(got) != string(want) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(want))
	}
	if err := packPages(replace, dir, dir); err == nil {
		t.Error("pages that are not there are not missed")
	}
}

// TestNobodyNeedsWhatIsCut looks for what would get to the lines and packages that are left out, in
// the sources that a router's binary is made of.
func TestNobodyNeedsWhatIsCut(t *testing.T) {
	target := target(t, "linux/mipsle")
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", target.Tags(), "-f", `{{if .Module}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}`, "..")
	cmd.Env = append(os.Environ(), target.Env()...)
	files, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	transports := 0
	for _, name := range strings.Fields(string(files)) {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			if i.Path.Value == `"text/tabwriter"` && strings.Contains(name, "urfave") {
				continue // the command line's parser, for help that is not asked for
			}
			if slices.Contains([]string{`"text/tabwriter"`, `"runtime/metrics"`, `"mime"`, `"mime/multipart"`, `"compress/gzip"`, `"compress/flate"`, `"math/rand"`, `"net/http/httptrace"`}, i.Path.Value) {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CompositeLit:
				if isOfHTTP(n.Type, "Client") && !isGiven(n, "Transport") {
					t.Errorf("%s: a client without a transport has http.DefaultTransport", name)
				}
				if isOfHTTP(n.Type, "Transport") {
					transports++
					if !isGiven(n, "DisableCompression") || isGiven(n, "Proxy") {
						t.Errorf("%s: want a transport with DisableCompression and without Proxy", name)
					}
				}
			case *ast.BasicLit: // the parser of the command line prints lists of numbers so, and times, of which there are none
				if n.Kind == token.STRING && strings.Contains(n.Value, "%#v") && !strings.Contains(name, "urfave") {
					t.Errorf("%s prints with %%#v", name)
				}
			case *ast.SelectorExpr:
				if isOfHTTP(n, "DefaultTransport", "DefaultClient", "Get", "Head", "Post", "PostForm", "ServeContent", "ServeFile", "FileServer") {
					t.Errorf("%s uses http.%s", name, n.Sel.Name)
				}
				if isOf(n, "runtime", "Caller", "CallersFrames", "FuncForPC") { // see linkerCuts
					t.Errorf("%s asks for lines by runtime.%s", name, n.Sel.Name)
				}
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "AddSource" {
					t.Errorf("%s logs lines", name)
				}
			}
			return true
		})
	}
	if transports < 3 {
		t.Errorf("only %d transports are found", transports)
	}
}

// isOfHTTP reports whether e is one of these names of net/http.
func isOfHTTP(e ast.Expr, names ...string) bool { return isOf(e, "http", names...) }

// isOf reports whether e is one of these names of the package.
func isOf(e ast.Expr, pkg string, names ...string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := s.X.(*ast.Ident)
	return ok && of.Name == pkg && slices.Contains(names, s.Sel.Name)
}

// isGiven reports whether the literal of a struct gives the field a value.
func isGiven(n *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := kv.Key.(*ast.Ident)
		return ok && key.Name == field
	})
}

func TestCutsAreOfFilesThatAreNotAboutTrust(t *testing.T) {
	for _, c := range cuts {
		if strings.Contains(c.file, "crypto/") {
			t.Errorf("%s: what encrypts stays the library's", c.file)
		}
	}
}

func TestALineThatIsNotThereOnceIsAnError(t *testing.T) {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"\tnothing()\n": `0 lines "call()"`, "\tcall()\n\tcall()\n": `2 lines "call()"`, "\tcall() // and more\n": `0 lines`} {
		if err := os.WriteFile(filepath.Join(root, "src", "x.go"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		err := writeOverlay(filepath.Join(t.TempDir(), "overlay.json"), root, nil, []cut{{"x.go", "call()", ""}}, map[string]string{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestALibraryThatHasMovedIsAnError(t *testing.T) {
	if _, err := writeOverlays(t.TempDir(), t.TempDir(), ".."); err == nil || !strings.Contains(err.Error(), "text/template") {
		t.Errorf("got %v", err)
	}
}
