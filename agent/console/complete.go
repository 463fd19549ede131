package console

import (
	"context"
	_ "embed" // the scripts
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"ztm/agent/console/grammar"
	"ztm/apps"
)

// The scripts, by shell. They ask `ztm __complete -- WORDS...`, see [Console.complete].
var (
	//go:embed completion/ztm.bash
	bash string
	//go:embed completion/ztm.zsh
	zsh string
	//go:embed completion/ztm.fish
	fish string
	//go:embed completion/ztm.ps1
	powershell string
)

// completionTime is how long the agent may take to name what could come next: a person waits for
// the answer.
const completionTime = time.Second

// Lines that tell the shell's script to complete the names of files itself.
const (
	completeFiles = ":files"
	completeDirs  = ":dirs"
)

// harmless reports whether a word may be offered. Shells take what they are given apart in ways of
// their own, and names come from other endpoints: $(reboot) must not be one that a shell gets to
// see.
func harmless(word string) bool {
	return word != "" && word[0] != '-' && strings.IndexFunc(word, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_.,:@%+=/-", r)
	}) < 0
}

// complete prints what the last of the words could become: a candidate a line, with a tab before
// its explanation. It never fails, and prints nothing where it does not know.
func (c *Console) complete(ctx context.Context, root *grammar.Command, words []string) {
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	c.mu.Lock()
	c.mute = true
	c.mu.Unlock()
	next := grammar.Complete(root, words)
	for _, w := range next.Words {
		fmt.Fprintf(c.cfg.Stdout, "%s\t%s\n", w.Word, w.Usage)
	}
	if next.First {
		c.completeBrought(ctx, root, next)
	}
	switch next.Value {
	case "":
		return
	case "FILE", "SRC":
		fmt.Fprintln(c.cfg.Stdout, completeFiles)
		return
	case "FROM", "TO": // a file here, or what follows the name of an endpoint
		if !strings.Contains(next.Typed, ":") {
			fmt.Fprintln(c.cfg.Stdout, completeFiles)
		}
	case "DIR":
		fmt.Fprintln(c.cfg.Stdout, completeDirs)
		return
	}
	data, _ := next.Line.Option("data")
	if c.choose(data) != nil {
		return
	}
	c.prefixes(next.Line.Prefixes)
	for _, v := range c.values(ctx, next.Value, next.Typed) {
		if strings.HasPrefix(v, next.Typed) && harmless(v) {
			fmt.Fprintf(c.cfg.Stdout, "%s\n", next.Glue+v)
		}
	}
}

// values lists, sorted, what a name in capitals of the grammar can stand for. Errors are empty
// lists.
func (c *Console) values(ctx context.Context, kind, typed string) []string {
	var out []string
	add := func(s string) { out = append(out, s) }
	switch kind {
	case "MESH":
		meshes, _ := c.Meshes(ctx)
		for _, m := range meshes {
			add(m.Name)
		}
	case "EP", "ENDPOINT", "[MESH/]EP":
		if mesh, _, ok := strings.Cut(typed, "/"); ok && kind == "[MESH/]EP" {
			c.mesh = mesh
			add = func(s string) { out = append(out, mesh+"/"+s) }
		}
		eps, _ := c.Endpoints(ctx, apps.Filter{})
		for _, ep := range eps {
			add(ep.Name)
		}
	case "FROM", "TO":
		eps, _ := c.Endpoints(ctx, apps.Filter{})
		for _, ep := range eps {
			add(ep.Name + ":")
		}
	case "USER":
		users, _ := c.Users(ctx)
		for _, u := range users {
			add(u.Name)
		}
	default:
		if list := c.known.Values[kind]; list != nil {
			out = list(ctx)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// prefixes takes over what `mesh MESH` and `ep [MESH/]EP` chose.
func (c *Console) prefixes(given map[string]string) {
	c.mesh, c.endpoint = given["mesh"], given["ep"]
	if mesh, ep, ok := strings.Cut(c.endpoint, "/"); ok {
		c.mesh, c.endpoint = mesh, ep
	}
}

// completion prints the script that teaches a shell to ask `ztm __complete`.
func completion(w io.Writer, shell string) error {
	script := ""
	switch shell {
	case "bash":
		script = bash
	case "zsh":
		script = zsh
	case "fish":
		script = fish
	case "powershell":
		script = powershell
	default:
		return &apps.UsageError{Err: &apps.HintError{
			Err:  fmt.Errorf("unsupported shell %q", shell),
			Hint: "supported are: bash, zsh, fish, powershell",
		}}
	}
	_, err := io.WriteString(w, script)
	return err
}
