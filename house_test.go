package main

import (
	"bytes"
	"go/ast"
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageHasOneDocComment(t *testing.T) {
	docs := map[string][]string{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		docs[s.pkg] = append(docs[s.pkg], "")
		if s.file.Doc != nil {
			docs[s.pkg] = append(docs[s.pkg], s.path)
			if text := s.file.Doc.Text(); !strings.HasPrefix(text, "Package "+s.file.Name.Name+" ") && !strings.HasPrefix(text, "Command ") {
				t.Errorf("%s: the comment begins with %.30q", s.path, text)
			}
		}
	}
	for pkg, files := range docs {
		files = slices.DeleteFunc(files, func(f string) bool { return f == "" })
		if len(files) != 1 {
			t.Errorf("package %s has %d doc comments: %v", pkg, len(files), files)
		}
	}
}

func TestFilesAreFormattedAndShort(t *testing.T) {
	const most = 500 // lines
	for _, s := range sources(t) {
		if formatted, err := format.Source(s.text); err != nil || !bytes.Equal(formatted, s.text) {
			t.Errorf("%s is not as gofmt has it", s.path)
		}
		if n := bytes.Count(s.text, []byte("\n")); n > most {
			t.Errorf("%s has %d lines, more than %d", s.path, n, most)
		}
	}
}

func TestNoRoomIsCrowded(t *testing.T) {
	const mostFiles, mostLines = 25, 3000 // without tests: what a reader can hold in mind
	files, lines := map[string]int{}, map[string]int{}
	for _, s := range sources(t) {
		if !s.test {
			files[s.pkg]++
			lines[s.pkg] += bytes.Count(s.text, []byte("\n"))
		}
	}
	for pkg, n := range files {
		if n > mostFiles || lines[pkg] > mostLines {
			t.Errorf("%s has %d files and %d lines, more than %d or %d: find its parts", pkg, n, lines[pkg], mostFiles, mostLines)
		}
	}
}

// readLogs are the tests that read a log, and why. What a line says is for people, and may change.
var readLogs = map[string]string{
	"mesh_test.go":                   "no secret is in it",
	"attack_test.go":                 "it does not grow",
	"cloud_test.go":                  "no name of a file is in it",
	"docs_test.go":                   "the manual shows it",
	"console_test.go":                "no secret is in it",
	"apps/proxy/config_test.go":      "no secret is in it",
	"apps/terminal/terminal_test.go": "an audit line is for programs, too",
	"hub/attack_test.go":             "it does not grow",
	"tunnel/answer/answer_test.go":   "the text of a fault is in it and nowhere else",
	"tunnel/identity/secret_test.go": "no secret is in it",
	"hub/bootstrap_test.go":          "no secret is in it",
	"direct_test.go":                 "no local address is in it",
}

func TestNoTestReadsTheWordsOfALogLine(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok || call.Sel.Name != "String" {
				return true
			}
			name := ""
			switch x := call.X.(type) {
			case *ast.Ident:
				name = x.Name
			case *ast.SelectorExpr:
				name = x.Sel.Name
			case *ast.IndexExpr:
				if of, ok := x.X.(*ast.SelectorExpr); ok {
					name = of.Sel.Name
				}
			}
			if name = strings.ToLower(name); strings.HasSuffix(name, "log") || strings.HasSuffix(name, "logs") {
				seen[s.path] = true
				if readLogs[s.path] == "" {
					t.Errorf("%v: a test reads a log: count, or look at a state", s.at(n.Pos()))
				}
			}
			return true
		})
	}
	for path := range readLogs {
		if !seen[path] {
			t.Errorf("%s does not read a log any longer", path)
		}
	}
}

// TestForbiddenWords holds what cannot be said in an import.
func TestForbiddenWords(t *testing.T) {
	for _, s := range sources(t) {
		program := s.pkg == "." || s.file.Name.Name == "main"
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					t.Errorf("%v: init: what happens when a package is linked cannot be seen", s.at(n.Pos()))
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && f.Name == "recover" && !s.test {
					t.Errorf("%v: recover: a fault of ours must be seen", s.at(n.Pos()))
				}
				if f, ok := n.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Error" && len(n.Args) == 3 && !s.test {
					if x, ok := f.X.(*ast.Ident); ok && x.Name == "http" {
						if _, fixed := n.Args[1].(*ast.BasicLit); !fixed {
							t.Errorf("%v: http.Error: package answer keeps the text of faults from peers", s.at(n.Pos()))
						}
					}
				}
			case *ast.SelectorExpr:
				x, ok := n.X.(*ast.Ident)
				if !ok {
					break
				}
				switch name := x.Name + "." + n.Sel.Name; {
				case name == "time.Sleep":
					t.Errorf("%v: %s: wait for what is to happen", s.at(n.Pos()), name)
				case name == "os.Exit" && !s.test && !(program && filepath.Base(s.path) == "main.go"):
					t.Errorf("%v: %s: only main ends the program", s.at(n.Pos()), name)
				case x.Name == "log" && strings.HasPrefix(n.Sel.Name, "Fatal") && slices.Contains(s.imports(), "log"):
					t.Errorf("%v: %s: only main ends the program", s.at(n.Pos()), name)
				}
			}
			return true
		})
		for _, group := range s.file.Comments {
			for _, word := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X:"} {
				if strings.Contains(group.Text(), word) {
					t.Errorf("%v: %s: do it or leave it", s.at(group.Pos()), word)
				}
			}
		}
		if bytes.Contains(s.text, []byte("/wo"+"rk/")) {
			t.Errorf("%s holds a path of the machine it was written on", s.path)
		}
	}
}

func TestTheModuleReplacesNothing(t *testing.T) {
	b, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "replace") || strings.HasPrefix(line, "toolchain") {
			t.Errorf("go.mod: %s", line)
		}
	}
}
