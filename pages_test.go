package main

import (
	"errors"
	"go/ast"
	"go/token"
	"os"
	"path"
	"regexp"
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
