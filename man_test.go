package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
)

// manPages writes all manual pages into a directory.
func manPages(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "man1")
	var errs bytes.Buffer
	c := console.New(console.Config{Stderr: &errs, Getenv: func(string) string { return "" }})
	if status := c.Run(t.Context(), []string{"__man", dir}, commands(c)); status != 0 {
		t.Fatalf("status %d, %s", status, &errs)
	}
	return dir
}

// TestEveryCommandHasAManualPage holds that a page has what help has: the options and an example.
func TestEveryCommandHasAManualPage(t *testing.T) {
	dir := manPages(t)
	for _, cmd := range allCommands(t) {
		if cmd.Hidden {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, "ztm-"+strings.Join(cmd.words, "-")+".1"))
		if err != nil {
			t.Error(err)
			continue
		}
		plain := strings.ReplaceAll(string(page), `\-`, "-")
		for _, f := range cmd.Flags {
			if v, ok := f.(cli.VisibleFlag); ok && v.IsVisible() && !strings.Contains(plain, "-"+f.Names()[0]) {
				t.Errorf("the page of ztm %s has no option %s", cmd, f.Names()[0])
			}
		}
		if strings.Contains(cmd.Description, "Example:") && !strings.Contains(plain, ".SH EXAMPLES\n") {
			t.Errorf("the page of ztm %s has no example", cmd)
		}
	}
}

// TestManReadsThePages holds that the formatter of this machine finds nothing to complain about.
func TestManReadsThePages(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("needs the program groff")
	}
	pages, err := filepath.Glob(filepath.Join(manPages(t), "*.1"))
	if err != nil || len(pages) < 50 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), groff, append([]string{"-man", "-Tutf8", "-ww", "-rLL=100n"}, pages...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Errorf("%v\n%s", err, &errs)
	}
	if want := "ztm tunnel open inbound tcp/web --listen 8080"; !strings.Contains(out.String(), want) {
		t.Errorf("the pages do not show %q", want)
	}
}
