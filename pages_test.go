package main

import (
	"errors"
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTheErrorsOfTheTroubleshootingPageAreTheProgramsOwn holds that somebody who searches the page
// for what they see finds it: each text of a first column is in a string of the program.
func TestTheErrorsOfTheTroubleshootingPageAreTheProgramsOwn(t *testing.T) {
	page, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := texts(t)
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1)
	if len(rows) < 20 {
		t.Fatalf("the page has %d errors", len(rows))
	}
	for _, row := range rows {
		if !strings.Contains(texts, row[1]) {
			t.Errorf("the program does not say %q", row[1])
		}
	}
}

// TestEveryKindOfErrorIsOnTheTroubleshootingPage holds that whatever the program says is of a kind that
// the page explains.
func TestEveryKindOfErrorIsOnTheTroubleshootingPage(t *testing.T) {
	page, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := 0
	for _, s := range sources(t) {
		if s.path != "tunnel/answer/code.go" {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			if lit, ok := v.Values[0].(*ast.BasicLit); ok {
				if kinds++; !strings.Contains(string(page), "| `"+strings.Trim(lit.Value, `"`)+"` |") {
					t.Errorf("the page does not explain errors of the kind %s", lit.Value)
				}
			}
			return true
		})
	}
	if kinds < 14 {
		t.Errorf("only %d kinds were found", kinds)
	}
}

// betweenMachines are the packages whose refusals are for the programs of other machines.
var betweenMachines = []string{"hub", "apps/appstest"}

// TestEveryRefusalOfAUserIsOnTheTroubleshootingPage holds that whoever is told that they may not finds
// there who can let them, unless the error says it.
func TestEveryRefusalOfAUserIsOnTheTroubleshootingPage(t *testing.T) {
	page, err := os.ReadFile("docs/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, s := range sources(t) {
		if s.test || slices.Contains(betweenMachines, s.pkg) {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			text, ok := denial(n)
			if !ok || !strings.Contains(text, "user %") || strings.Contains(text, "ztm ") {
				return true
			}
			if seen++; !strings.Contains(string(page), "| `"+verb.ReplaceAllString(text, "…")) {
				t.Errorf("%v: the page does not say what to do about %q", s.at(n.Pos()), text)
			}
			return true
		})
	}
	if seen < 15 {
		t.Errorf("only %d refusals were found", seen)
	}
}

// denial returns the text of a call that makes an error of the kind Denied.
func denial(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) < 2 {
		return "", false
	}
	kind, ok := call.Args[0].(*ast.SelectorExpr)
	if !ok || kind.Sel.Name != "Denied" {
		return "", false
	}
	lit, ok := call.Args[1].(*ast.BasicLit)
	if !ok {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// texts are all strings of the program, with an ellipsis for each word that is put in.
func texts(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil {
				all.WriteString(verb.ReplaceAllString(text, "…") + "\n")
			}
			return true
		})
	}
	return all.String()
}

var verb = regexp.MustCompile(`%[-+#0-9.]*[a-zA-Z]`)

// TestPagesLeadToPages holds that a link to another page, and to a part of it, leads somewhere.
func TestPagesLeadToPages(t *testing.T) {
	for _, p := range pages(t) {
		text, err := os.ReadFile(p.path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\]\(([^):#]*)(#[^)]*)?\)`).FindAllStringSubmatch(string(text), -1) {
			if err := leads(p.path, m[1], m[2]); err != nil {
				t.Errorf("%s: %s%s: %v", p.path, m[1], m[2], err)
			}
		}
	}
}

// leads reports whether there is a page, seen from another, and a heading in it.
func leads(from, page, heading string) error {
	to := from
	if page != "" {
		to = path.Join(path.Dir(from), page)
	}
	st, err := os.Stat(to)
	if err != nil || heading == "" || st.IsDir() {
		return err
	}
	text, err := os.ReadFile(to)
	if err != nil {
		return err
	}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		if name := strings.ReplaceAll(strings.ToLower(m[1]), " ", "-"); "#"+regexp.MustCompile(`[^a-z0-9-]`).ReplaceAllString(name, "") == heading {
			return nil
		}
	}
	return errors.New("it has no such heading")
}

func TestTheDecisionsNameTestsThatExist(t *testing.T) {
	named := regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w*`)
	known := map[string]bool{}
	for _, s := range sources(t) {
		if s.test {
			for _, m := range regexp.MustCompile(`(?m)^func (\w+)\(`).FindAllSubmatch(s.text, -1) {
				known[string(m[1])] = true
			}
		}
	}
	pages, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range named.FindAllString(string(text), -1) {
			if !known[name] {
				t.Errorf("%s names %s, which is no test", page, name)
			}
		}
	}
}
