package cli

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"ztm/apps"
	"ztm/tunnel/identity"
)

// templates are the apps that `ztm app init` begins with.
//
//go:embed templates/*/*
var templates embed.FS

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
	files, err := fs.Sub(templates, "templates/"+lang)
	if err != nil {
		return err
	}
	list, err := fs.ReadDir(files, ".")
	if err != nil {
		return apps.Usagef("--lang is python or go")
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return err
	}
	for _, f := range list {
		text, err := fs.ReadFile(files, f.Name())
		if err != nil {
			return err
		}
		if err := create(abs, strings.TrimSuffix(f.Name(), ".txt"), strings.ReplaceAll(string(text), "NAME", name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(c.Stderr(), "Made %s. %s:\n  ztm app run %s\n", apps.Printable(abs), next[lang], apps.Printable(dir))
	return nil
}

// next says what comes after init.
var next = map[string]string{"python": "To try it out", "go": "Build it with `sh build.sh` there, then"}

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
