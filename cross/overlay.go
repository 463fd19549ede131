package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed texttemplate/template.go
var textTemplate []byte

// writeOverlay writes to dir what `go build -overlay` needs to see our package in the place of text/template, and returns the path
// of its JSON file. goroot is left as it is.
func writeOverlay(dir, goroot string) (string, error) {
	original := filepath.Join(goroot, "src", "text", "template")
	files, err := filepath.Glob(filepath.Join(original, "*.go"))
	if err != nil {
		return "", err
	}
	ours := filepath.Join(dir, "template.go")
	replace := map[string]string{}
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			replace[f] = "" // it is not there
		}
	}
	if len(replace) == 0 {
		return "", fmt.Errorf("the standard library is not at %s", original)
	}
	replace[filepath.Join(original, "template.go")] = ours
	if err := os.WriteFile(ours, textTemplate, 0o644); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, list, 0o644)
}
