package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestAScenarioFitsOnAScreen holds that a recipe stays one, and that the list names it. That its
// commands work is the matter of TestSessionsOfThePagesWork.
func TestAScenarioFitsOnAScreen(t *testing.T) {
	paths, err := filepath.Glob("docs/scenarios/*.md")
	if err != nil || len(paths) < 2 {
		t.Fatalf("found %q, %v", paths, err)
	}
	index, err := os.ReadFile("docs/scenarios/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > 40 {
			t.Errorf("%s has %d lines, more than 40", path, n)
		}
		if name := filepath.Base(path); name != "README.md" && !bytes.Contains(index, []byte("]("+name+")")) {
			t.Errorf("the list of scenarios does not name %s", name)
		}
	}
}

// has reports whether a session of the page names an address.
func (p page) has(address string) bool {
	return slices.ContainsFunc(p.blocks, func(b block) bool { return b.has(address) })
}

func (b block) has(text string) bool {
	return slices.ContainsFunc(b.lines, func(line string) bool {
		return prompt.MatchString(line) && strings.Contains(line, text)
	})
}

// entrancePort is a port on which a reader listens: five digits, the first of them a one.
var entrancePort = regexp.MustCompile(`\b1\d{4}\b`)

// ports are those on which the sessions of the page listen.
func (p page) ports() []string {
	var out []string
	for _, b := range p.blocks {
		for _, line := range b.lines {
			if prompt.MatchString(line) {
				out = append(out, entrancePort.FindAllString(line, -1)...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// standIns are programs with a window, and what takes their place: shell that succeeds if the server
// at the address answers as such a server does.
var standIns = map[string]string{
	"vncviewer": `curl -s "telnet://${1%::*}:${1#*::}" </dev/null | grep -q "^RFB 003"`,
	"xfreerdp": `printf '\003\000\000\013\006\340\000\000\000\000\000' | curl -s "telnet://${1#/v:}" |
od -An -tx1 | grep -q "03 00 00 0b 06 d0"`,
}

// plainWord is what names a program, and no assignment and the like.
var plainWord = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// missing is a program that the session needs and that is not here.
func (b block) missing() string {
	for _, v := range places {
		if name := v.missing(); name != "" && b.has(v.address) {
			return name
		}
	}
	for _, line := range b.lines {
		m := prompt.FindString(line)
		words := shellWords(strings.TrimPrefix(line, m))
		if m == "" || len(words) == 0 || !plainWord.MatchString(words[0]) || words[0] == "ztm" || standIns[words[0]] != "" {
			continue
		}
		if exec.Command("sh", "-c", `command -v "$0"`, words[0]).Run() != nil {
			return words[0]
		}
	}
	return ""
}
