// Package grammar is the grammar of the command line, which is ZTM's: words that lead down a tree
// of commands, then names, then options, of which some take all the words that follow.
//
//	ztm [OPTIONS] [mesh MESH | ep [MESH/]EP] COMMAND... [NAME...] [--option | --option VALUE | --option VALUE...]
//
// [Parse] reads a command line into a [Line], whose Canonical form a plain flag parser understands:
// every option before the names, one value each. [Help] prints what a command is for, [Complete]
// says what could come next. All three see the same [Command] tree and the same walk along it, so
// they cannot disagree. Nothing is run here.
package grammar

import (
	"slices"
	"strings"

	"ztm/apps"
)

// Command is a node of the command tree. The root is the program itself.
type Command struct {
	Name        string
	Aliases     []string
	Usage       string // one line: what it does
	Description string // more, with an example
	Args        string // its names in capitals: "MESH", "[NAME]", "EP [-- COMMAND...]"; empty means none
	Synopsis    string // how it is typed; if empty, it is made of the rest
	Options     []Option
	Commands    []*Command
	Hidden      bool // from help and completion
	Runs        bool // can be run itself; otherwise one of Commands must follow
	Prefix      bool // takes one name, and then a command of the root follows: "mesh", "ep"

	// About says what the command is about and so which prefixes it takes: [apps.InMesh] and its
	// like. With none of them it takes no prefix.
	About string

	// Missing names the feature that a command comes with and that this binary was built without;
	// "" is no such command. The root has it; nil knows none.
	Missing func(command string) string
}

// Option is an option of a command. Those of the root are options of all commands that have no own
// of the name.
type Option struct {
	Name     string // long form, without dashes
	Aliases  []string
	Kind     Kind
	Value    string // what stands for the value, "FILE", or the words it can be, "on|off"; completion goes by it
	Usage    string // one line
	Default  string // as help shows it; empty hides it
	Required bool
	Hidden   bool
}

// Kind says how many words an option takes.
type Kind int

// The kinds of options.
const (
	Bool         Kind = iota // none; "--name=false" is understood
	One                      // the next word, unless it starts with a dash; "--name=-1" is understood
	Optional                 // like One; without a value it is the empty string
	List                     // all words up to the next that starts with a dash; "--name=a" takes that one alone
	OptionalList             // like List; without a value it is one empty string
)

// find returns the subcommand of that name or alias, or nil.
func (c *Command) find(name string) *Command {
	for _, s := range c.Commands {
		if s.Name == name || slices.Contains(s.Aliases, name) {
			return s
		}
	}
	return nil
}

// visible returns the subcommands that help and completion show.
func (c *Command) visible() []*Command {
	return slices.DeleteFunc(slices.Clone(c.Commands), func(s *Command) bool { return s.Hidden })
}

// option returns the option of that name or alias, or nil.
func (c *Command) option(name string) *Option {
	for i := range c.Options {
		if o := &c.Options[i]; o.Name == name || slices.Contains(o.Aliases, name) {
			return o
		}
	}
	return nil
}

// args takes Args apart: the names, how many of them are required, and whether the last may be
// repeated.
func (c *Command) args() (names []string, required int, repeats bool) {
	depth := 0
	for _, token := range strings.Fields(c.Args) {
		optional := true
		for _, r := range token {
			switch r {
			case '[':
				depth++
			case ']':
				depth--
			default:
				optional = optional && depth > 0
			}
		}
		name := strings.TrimSuffix(token, "...")
		if optional {
			name = strings.Trim(token, "[].")
		}
		repeats = strings.Contains(token, "...")
		if name == "--" || name == "" {
			continue
		}
		names = append(names, name)
		if !optional {
			required = len(names)
		}
	}
	return names, required, repeats
}

// argument returns the name that stands for the i-th name of the command line in Args, or "".
func (c *Command) argument(i int) string {
	names, _, repeats := c.args()
	switch {
	case i < len(names):
		return names[i]
	case repeats && len(names) > 0:
		return names[len(names)-1]
	}
	return ""
}

// choices reports whether what stands for a value is the words themselves that it can be:
// "bash|zsh".
func choices(value string) bool {
	return strings.Contains(value, "|") && strings.ToLower(value) == value
}

// dashed returns an option's name as it is typed.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// takes reports whether the command heeds a prefix.
func (c *Command) takes(prefix string) bool {
	switch c.About {
	case apps.AtEndpoint, apps.FromEndpoint:
		return true
	case apps.InMesh:
		return prefix == meshPrefix
	}
	return false
}

// leads reports whether the command or one below it heeds all the prefixes that were given.
func (c *Command) leads(prefixes map[string]string) bool {
	for prefix := range prefixes {
		if !c.takes(prefix) {
			return slices.ContainsFunc(c.Commands, func(s *Command) bool { return s.leads(prefixes) })
		}
	}
	return true
}
