package cli

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/shellwords"
)

// What `ztm app init` begins with.
var (
	//go:embed templates/python/app.json
	pythonManifest string
	//go:embed templates/python/main.py.txt
	pythonProgram string
	//go:embed templates/go/app.json
	goManifest string
	//go:embed templates/go/main.go.txt
	goProgram string
	//go:embed templates/go/go.mod.txt
	goModule string
	//go:embed templates/go/build.sh.txt
	goBuild string
)

// template returns the files of a new app in a language, by their names, and what comes after init; nil is
// none in that language.
func template(lang string) (files map[string]string, next string) {
	switch lang {
	case "python":
		return map[string]string{"app.json": pythonManifest, "main.py": pythonProgram}, "To try it out"
	case "go":
		return map[string]string{"app.json": goManifest, "main.go": goProgram, "go.mod": goModule, "build.sh": goBuild}, "Build it with `sh build.sh` there, then"
	}
	return nil, ""
}

// begin makes the directory of a new app.
func begin(c apps.Console, dir, lang string) error {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	name := strings.ToLower(filepath.Base(abs))
	if err := identity.CheckName(name); err != nil {
		return apps.Usagef("the name of the directory is that of the app: %v", err)
	}
	files, next := template(lang)
	if files == nil {
		return apps.Usagef("--lang is python or go")
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return err
	}
	for file, text := range files {
		if err := create(abs, file, strings.ReplaceAll(text, "NAME", name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.Stderr(), "Made %s. %s:\n  ztm app run %s\n", apps.Printable(abs), next, shellwords.Here(apps.Printable(dir)))
	return nil
}

// create writes a file that is not there.
func create(dir, name, text string) error {
	perm := os.FileMode(0o644)
	if strings.HasPrefix(text, "#!") {
		perm = 0o755
	}
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
