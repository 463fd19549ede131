package confine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAScriptNamesNoDirectoryAsItsInterpreter: what it names it may read, with all that is below.
func TestAScriptNamesNoDirectoryAsItsInterpreter(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("there are no first lines")
	}
	env := []string{"PATH=/usr/bin:/bin"}
	for line, want := range map[string][]string{
		"#!/bin/sh":              {"/bin/sh"},
		"#!/usr/bin/env sh":      {"/usr/bin/env", "/usr/bin/sh", "/bin/sh"},
		"#!/":                    nil,
		"#!/usr":                 nil,
		"#!/usr/bin/env ..":      {"/usr/bin/env"},
		"#!/usr/bin/env -S sh .": {"/usr/bin/env"},
	} {
		script := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(script, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got := shebang(script, env)
		for _, path := range got {
			if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
				t.Errorf("%s: it may read all of %s", line, path)
			}
		}
		if len(want) < 2 && !slices.Equal(got, want) || len(want) > 1 && !strings.HasPrefix(strings.Join(got, " "), want[0]) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
