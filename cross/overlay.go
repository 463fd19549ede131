package main

import (
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// std holds our own stand-ins for parts of the standard library.
//
//go:embed std/*/*.go
var std embed.FS

// standIn is a file of ours that is compiled in the place of files of the standard library.
type standIn struct {
	file     string    // below std
	in       string    // that directory, below GOROOT/src
	replaces string    // pattern of file names
	profiles []Profile // whose binaries have it
}

// standIns are few, and small: each is code that we have to understand in the place of code that
// everybody relies on. Nothing that encrypts, authenticates or checks will be among them. Each says
// what linux/mipsle is smaller by, in KB as it is and after xz; docs/decisions/overlay.md says how
// that was measured and which goes first.
var standIns = []standIn{
	{"template/template.go", "text/template", "*.go", []Profile{Full, Router}},  // 1567, 263
	{"regexp/regexp.go", "regexp", "*.go", []Profile{Router}},                   // 261, 60
	{"idna/idna.go", "vendor/golang.org/x/net/idna", "*.go", []Profile{Router}}, // 218, 61
	{"slices/zsort.go", "slices", "zsort*.go", []Profile{Router}},               // 221, 31
	{"gzip/gzip.go", "compress/gzip", "*.go", []Profile{Router}},                // 51, 12 with the next
	{"flate/flate.go", "compress/flate", "*.go", []Profile{Router}},
	{"bisect/bisect.go", "internal/bisect", "*.go", []Profile{Router}},      // 20, 6
	{"mime/mime.go", "mime", "*.go", []Profile{Router}},                     // 19, 6
	{"rand/rand.go", "math/rand", "*.go", []Profile{Router}},                // 17, 8
	{"tabwriter/tabwriter.go", "text/tabwriter", "*.go", []Profile{Router}}, // 12, 4
}

// cut is a line of the standard library's that is another one in the router profile. What that line
// alone keeps in the binary goes with it.
type cut struct {
	file string // below GOROOT/src
	line string // without the tabs before it; it is there once, or the build fails
	by   string // what is there instead
}

// cuts are lines that no program of ours gets to, or that do the same in both forms. Tests look for
// who would get there.
var cuts = []cut{
	// How often a GODEBUG setting mattered is for readers of runtime/metrics. 47, 8 KB
	{"internal/godebug/godebug.go", "s.nonDefaultOnce.Do(s.register)", ""},
	// Transports of ours have no proxy: tunnel.Dialer speaks to it. 13, 0.3 KB
	{"net/http/transport.go", `if _, err := d.DialWithConn(ctx, conn, "tcp", cm.targetAddr); err != nil {`,
		`if err := errors.New("http: SOCKS is left out of this build"); err != nil {`},
	// Nobody uses http.DefaultTransport. 17, 6 KB
	{"net/http/transport.go", "Proxy: ProxyFromEnvironment,", ""},
	// A trace within a trace does without the outer one; ReverseProxy makes the only one there is. 17, 5 KB
	{"net/http/httptrace/trace.go", "trace.compose(old)", "_ = old"},
	// strconv gives the same answer from smaller tables, which are there anyway. 8, 3 KB
	{"log/slog/text_handler.go", "if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {",
		"if r == utf8.RuneError || unicode.IsSpace(r) || !strconv.IsPrint(r) {"},
	// Nobody prints with %#v what has a GoString method. 20, 6 KB with the next
	{"fmt/print.go", "if stringer, ok := p.arg.(GoStringer); ok {", "if ok := false; ok {"},
	{"fmt/print.go", "p.fmt.fmtS(stringer.GoString())", ""},
	// Of these the compiler makes a copy for each type of element, and of what they call another one. The same in one function. 40, 4 KB
	{"slices/slices.go", "i := IndexFunc(s, del)", "i := 0"},
	{"slices/slices.go", "for j := i + 1; j < len(s); j++ {", "for j := range s {"},
	{"slices/slices.go", "return IndexFunc(s, f) >= 0", "for i := range s { if f(s[i]) { return true } }; return false"},
	{"slices/slices.go", "return Index(s, v) >= 0", "for i := range s { if v == s[i] { return true } }; return false"},
	{"slices/sort.go", "pdqsortCmpFunc(x, 0, n, bits.Len(uint(n)), cmp)", "place(sorted(n, func(i, j int) int { return cmp(x[i], x[j]) }), swapper(x))"},
	{"slices/sort.go", "stableCmpFunc(x, len(x), cmp)", "SortFunc(x, cmp)"},
}

// writeOverlays writes to dir, for each profile, what `go build -overlay` needs to see our files in
// the place of the library's, and the pages of the console below root compressed. It returns the
// paths. goroot and root are left as they are.
func writeOverlays(dir, goroot, root string) (map[Profile]string, error) {
	out := map[Profile]string{}
	for _, p := range []Profile{Full, Router} {
		var list []standIn
		for _, s := range standIns {
			if slices.Contains(s.profiles, p) {
				list = append(list, s)
			}
		}
		var lines []cut
		replace := map[string]string{}
		if p == Router {
			lines = cuts
		} else if err := packPages(replace, dir, root); err != nil {
			return nil, err
		}
		out[p] = filepath.Join(dir, "overlay-"+string(p)+".json")
		if err := writeOverlay(out[p], goroot, list, lines, replace); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// writeOverlay writes an overlay to a JSON file, and what it refers to beside it: stand-ins and cuts
// beside what is in replace already.
func writeOverlay(name, goroot string, list []standIn, lines []cut, replace map[string]string) error {
	for _, s := range list {
		if err := s.add(replace, filepath.Dir(name), goroot); err != nil {
			return err
		}
	}
	for _, c := range lines {
		if err := c.add(replace, filepath.Dir(name), goroot); err != nil {
			return err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}

// add adds to replace which files are not there, "", and where ours is, of which it writes a copy
// to dir.
func (s standIn) add(replace map[string]string, dir, goroot string) error {
	library := filepath.Join(goroot, "src", filepath.FromSlash(s.in))
	files, err := filepath.Glob(filepath.Join(library, s.replaces))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("the standard library has no %s/%s below %s", s.in, s.replaces, goroot)
	}
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			replace[f] = ""
		}
	}
	text, err := std.ReadFile("std/" + s.file)
	if err != nil {
		return err
	}
	ours := filepath.Join(dir, strings.ReplaceAll(s.file, "/", "-"))
	replace[filepath.Join(library, "ztm_"+path.Base(s.file))] = ours
	return os.WriteFile(ours, text, 0o644)
}

// add adds to replace where the file without the line is, which it writes to dir.
func (c cut) add(replace map[string]string, dir, goroot string) error {
	library := filepath.Join(goroot, "src", filepath.FromSlash(c.file))
	text, err := os.ReadFile(cmp.Or(replace[library], library)) // it may have lost another line already
	if err != nil {
		return err
	}
	if n := strings.Count(string(text), "\t"+c.line+"\n"); n != 1 {
		return fmt.Errorf("%s has %d lines %q, want one", c.file, n, c.line)
	}
	ours := filepath.Join(dir, strings.ReplaceAll(c.file, "/", "-"))
	replace[library] = ours
	return os.WriteFile(ours, []byte(strings.Replace(string(text), "\t"+c.line+"\n", "\t"+c.by+"\n", 1)), 0o644)
}
