package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/agent/feature"
	"ztm/apps"
)

// TestEveryFeatureKnowsItsCommands holds what a smaller build says of a command that it has not: the
// table names commands that are there, and has all of those that apps add.
func TestEveryFeatureKnowsItsCommands(t *testing.T) {
	c := console.New(console.Config{})
	var named []string
	for _, p := range feature.Parts() {
		if !p.In {
			t.Errorf("these tests are of the full profile: where is %s?", p.Name)
		}
		named = append(named, p.Commands...)
	}
	for _, command := range named {
		if err := c.Check(strings.Fields(command), commands(c), true); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
	for _, k := range kinds() {
		if k.Name == "tunnel" || k.Commands == nil {
			continue // the tunnel is in every build
		}
		var more apps.Commands
		more.Add(k.Commands(c))
		for verb, list := range map[string][]*cli.Command{"": more.Top, "get ": more.Get, "describe ": more.Describe, "stats ": more.Stats} {
			for _, cmd := range list {
				if !slices.Contains(named, verb+cmd.Name) {
					t.Errorf("feature.Parts does not name `ztm %s%s`", verb, cmd.Name)
				}
			}
		}
	}
}

func TestACommandThatWasLeftOutSaysSo(t *testing.T) {
	var stderr strings.Builder
	c := console.New(console.Config{Stderr: &stderr, Missing: func(command string) string {
		return map[string]string{"chess": "games", "get game": "games", "policy play": "games"}[command]
	}})
	for line, want := range map[string]string{
		"chess open --x":       `"chess" is not in this build of ztm: it comes with the feature "games"`,
		"ep nas chess":         `"chess" is not in this build of ztm`,
		"get game -o json":     `"get game" is not in this build of ztm`,
		"policy play -f x":     `"policy play" is not in this build of ztm`,
		"policy applause -f x": `unknown command "policy applause"`,
	} {
		stderr.Reset()
		if status := c.Run(t.Context(), strings.Fields(line), commands(c)); status != 2 || !strings.Contains(stderr.String(), want) {
			t.Errorf("ztm %s: status %d, %s", line, status, &stderr)
		}
	}
}
