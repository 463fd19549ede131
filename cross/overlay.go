package main

import (
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
//go:embed std/template/template.go std/regexp/regexp.go std/idna/idna.go std/slices/sort.go
var std embed.FS

// standIn is a file of ours that is compiled in the place of files of the standard library.
type standIn struct {
	file     string    // below std
	in       string    // that directory, below GOROOT/src
	replaces string    // pattern of file names
	profiles []Profile // whose binaries have it
}

// standIns are few: each is code that we have to understand in the place of code that everybody relies on. Nothing that
// encrypts, authenticates or checks will be among them. Each says what linux/mipsle is smaller by.
var standIns = []standIn{
	{"template/template.go", "text/template", "*.go", []Profile{Full, Router}},  // 1.9 MB
	{"regexp/regexp.go", "regexp", "*.go", []Profile{Router}},                   // 0.26 MB
	{"idna/idna.go", "vendor/golang.org/x/net/idna", "*.go", []Profile{Router}}, // 0.22 MB
	{"slices/sort.go", "slices", "zsort*.go", []Profile{Router}},                // 0.18 MB
}

// writeOverlays writes to dir, for each profile, what `go build -overlay` needs to see our files in the place of the library's, and
// returns the paths. goroot is left as it is.
func writeOverlays(dir, goroot string) (map[Profile]string, error) {
	out := map[Profile]string{}
	for _, p := range []Profile{Full, Router} {
		var list []standIn
		for _, s := range standIns {
			if slices.Contains(s.profiles, p) {
				list = append(list, s)
			}
		}
		out[p] = filepath.Join(dir, "overlay-"+string(p)+".json")
		if err := writeOverlay(out[p], goroot, list); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// writeOverlay writes an overlay to a JSON file, and what it refers to beside it.
func writeOverlay(name, goroot string, list []standIn) error {
	replace := map[string]string{}
	for _, s := range list {
		if err := s.add(replace, filepath.Dir(name), goroot); err != nil {
			return err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(name, text, 0o644)
}

// add adds to replace which files are not there, "", and where ours is, of which it writes a copy to dir.
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
