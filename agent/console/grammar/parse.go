// The way of a command line:
//
//	words -> walk.word: prefix, command, option, value or name -> Line: checked -> Canonical -> the flag parser

package grammar

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ztm/apps"
)

// Line is a command line that was understood.
type Line struct {
	Prefixes map[string]string // the name that was given with each prefix, by the prefix's name
	Path     []*Command        // from the root to the command
	Names    []string          // what follows the command and is no option
	Help     bool              // asks for help about the command; nothing else was checked

	options [][]string // for each of Path what was given of its options: "--name=value"
}

// Command returns the command that the line names.
func (l *Line) Command() *Command { return l.Path[len(l.Path)-1] }

// Canonical returns the line, without the program's name and the prefixes, as every flag parser
// understands it: each option right after the command that declares it, in its long form with one
// value, and "--" before the names.
func (l *Line) Canonical() []string {
	var out []string
	for i, c := range l.Path {
		if i > 0 {
			out = append(out, c.Name)
		}
		out = append(out, l.options[i]...)
	}
	if len(l.Names) > 0 {
		out = append(append(out, "--"), l.Names...)
	}
	return out
}

// Option returns the last value that was given for the option of that name, to the command or else
// to the nearest one above it, and whether there was any.
func (l *Line) Option(name string) (value string, given bool) {
	for _, level := range slices.Backward(l.options) {
		for _, o := range slices.Backward(level) {
			if value, ok := strings.CutPrefix(o, "--"+name+"="); ok {
				return value, true
			}
		}
	}
	return "", false
}

// Parse reads a command line, without the program's name. An error is an [apps.UsageError], with a
// hint.
func Parse(root *Command, args []string) (*Line, error) {
	w := newWalk(root)
	for _, a := range args {
		if err := w.word(a); err != nil {
			return nil, wrong(w.line, err)
		}
		if w.line.Help && !w.asked {
			return w.line, nil
		}
	}
	if w.line.Help {
		return w.line, nil
	}
	if err := w.end(); err != nil {
		return nil, wrong(w.line, err)
	}
	return w.line, nil
}

// Begins checks that a line of a command could begin with args: its commands and options exist.
// What is missing is not looked for.
func Begins(root *Command, args []string) error {
	w := newWalk(root)
	for _, a := range args {
		if err := w.word(a); err != nil {
			return wrong(w.line, err)
		}
	}
	return nil
}

// wrong makes err a usage error; the hint is the usage of the command unless err has its own.
func wrong(l *Line, err error) error {
	if _, ok := err.(*apps.HintError); !ok {
		err = &apps.HintError{Err: err, Hint: "usage: " + oneLine(usage(l.Path))}
	}
	return &apps.UsageError{Err: err}
}

// oneLine is a usage of several ways, which stand on lines of their own in a help, for a hint.
func oneLine(usage string) string {
	ways := strings.Split(usage, "\n")
	for i := range ways {
		ways[i] = strings.TrimSpace(ways[i])
	}
	return strings.Join(ways, ", or: ")
}

// WithUsage gives a command that found something missing the hint that [Parse] gives. Other errors
// say themselves what is wanted.
func WithUsage(l *Line, err error) error {
	if !errors.As(err, new(*apps.UsageError)) || errors.As(err, new(*apps.HintError)) || !strings.HasPrefix(err.Error(), "missing ") {
		return err
	}
	return wrong(l, err)
}

// walk is the state of reading a command line from left to right.
type walk struct {
	line    *Line
	prefix  *Command // wants its name next
	pending *Option  // wants a value next, or may have more
	level   int      // of Path that declares pending
	taken   int      // values that pending has got
	plain   int      // names before "--"
	asked   bool     // "help" was said: words name commands and nothing else
	raw     bool     // after "--": all that follows are names
}

func newWalk(root *Command) *walk {
	return &walk{line: &Line{Prefixes: map[string]string{}, Path: []*Command{root}, options: [][]string{nil}}}
}

func (w *walk) word(a string) error {
	switch {
	case w.raw:
		w.line.Names = append(w.line.Names, a)
		return nil
	case len(a) > 1 && a[0] == '-':
		if err := w.endOption(); err != nil {
			return err
		}
		if a == "--" {
			w.raw = true
			return nil
		}
		return w.option(a)
	case w.pending != nil:
		return w.value(a)
	case w.prefix != nil:
		if a == "" {
			return fmt.Errorf("%s is empty", w.prefix.argument(0))
		}
		w.line.Prefixes[w.prefix.Name] = a
		w.prefix = nil
		return nil
	}
	return w.bare(a)
}

// bare takes a word that is neither an option nor a value of one.
func (w *walk) bare(a string) error {
	c := w.line.Command()
	if len(w.line.Names) > 0 || len(c.Commands) == 0 {
		w.name(a)
		return nil
	}
	switch s := c.find(a); {
	case s != nil && s.Prefix && !w.asked:
		if len(w.line.Prefixes) > 0 {
			return hinted(fmt.Errorf("%q cannot follow another prefix", a), "name the mesh of an endpoint like this: ztm ep MESH/EP")
		}
		w.prefix = s
	case s != nil:
		w.line.Path = append(w.line.Path, s)
		w.line.options = append(w.line.options, nil)
	case a == "help":
		w.line.Help, w.asked = true, true
	case c.Runs && c.Args != "" && !w.asked:
		w.name(a)
	default:
		return unknownCommand(w.line.Path, a)
	}
	return nil
}

func (w *walk) name(a string) {
	w.line.Names = append(w.line.Names, a)
	w.plain++
}

// option takes a word that starts with a dash: --name, --name=value, -n, -nVALUE.
func (w *walk) option(a string) error {
	name, value, has := strings.Cut(strings.TrimLeft(a, "-"), "=")
	if a[1] != '-' {
		name, value, has = a[1:2], strings.TrimPrefix(a[2:], "="), len(a) > 2
	}
	o, level := w.declared(name)
	switch {
	case o == nil && (name == "help" || name == "h"):
		w.line.Help = true
		if w.prefix != nil {
			w.line.Path = append(w.line.Path, w.prefix)
		}
		return nil
	case o == nil:
		return unknownOption(w.line.Path, a)
	case !has && o.Kind == Bool:
		w.add(o, level, "true")
		return nil
	case !has:
		w.pending, w.level, w.taken = o, level, 0
		return nil
	case o.Kind == Bool:
		if _, err := strconv.ParseBool(value); err != nil {
			return fmt.Errorf("option %s takes no value: %q", dashed(name), value)
		}
	}
	if err := o.check(value); err != nil {
		return err
	}
	w.add(o, level, value)
	return nil
}

// declared finds the option of that name that the command declares, or else the program.
func (w *walk) declared(name string) (*Option, int) {
	last := len(w.line.Path) - 1
	if o := w.line.Path[last].option(name); o != nil {
		return o, last
	}
	return w.line.Path[0].option(name), 0
}

func (w *walk) add(o *Option, level int, value string) {
	w.line.options[level] = append(w.line.options[level], "--"+o.Name+"="+value)
}

func (w *walk) value(a string) error {
	if err := w.pending.check(a); err != nil {
		return err
	}
	w.add(w.pending, w.level, a)
	w.taken++
	if w.pending.Kind != List && w.pending.Kind != OptionalList {
		w.pending = nil
	}
	return nil
}

// check returns an error if a value is none of the words that the option takes.
func (o *Option) check(value string) error {
	words := strings.Split(o.Value, "|")
	if !choices(o.Value) || slices.Contains(words, value) {
		return nil
	}
	last := len(words) - 1
	return fmt.Errorf("option %s: %q is not %s or %s", dashed(o.Name), value, strings.Join(words[:last], ", "), words[last])
}

// endOption is called where the words of an option end.
func (w *walk) endOption() error {
	o := w.pending
	w.pending = nil
	switch {
	case o == nil || w.taken > 0:
		return nil
	case o.Kind == Optional || o.Kind == OptionalList:
		w.add(o, w.level, "")
		return nil
	}
	return fmt.Errorf("option %s needs a value", dashed(o.Name))
}

// sink gives an option that stood before the command to the command, if that has its own of the
// name: the directory of `ztm --data DIR run hub` is the hub's.
func (w *walk) sink() {
	last := len(w.line.Path) - 1
	var sunk []string
	for i, level := range w.line.options[:last] {
		w.line.options[i] = slices.DeleteFunc(level, func(o string) bool {
			name, _, _ := strings.Cut(o[2:], "=")
			own := w.line.Command().option(name) != nil
			if own {
				sunk = append(sunk, o)
			}
			return own
		})
	}
	w.line.options[last] = append(sunk, w.line.options[last]...)
}

// stray finds an option that was given to a command above the one that the line names: it would be
// ignored.
func (w *walk) stray() error {
	last := len(w.line.Path) - 1
	for i := 1; i < last; i++ {
		if level := w.line.options[i]; len(level) > 0 {
			return unknownOption(w.line.Path, level[0])
		}
	}
	return nil
}

// end checks the line as a whole.
func (w *walk) end() error {
	if err := w.endOption(); err != nil {
		return err
	}
	w.sink()
	if err := w.stray(); err != nil {
		return err
	}
	c := w.line.Command()
	if w.prefix != nil {
		return hinted(fmt.Errorf("missing %s after %q", w.prefix.argument(0), w.prefix.Name),
			"usage: "+usage([]*Command{w.line.Path[0], w.prefix}))
	}
	if !c.Runs {
		if len(w.line.Names) > 0 {
			return unknownCommand(w.line.Path, w.line.Names[0])
		}
		return missingCommand(w.line)
	}
	if err := w.prefixed(); err != nil {
		return err
	}
	names, required, repeats := c.args()
	for i, name := range w.line.Names[:min(required, len(w.line.Names))] {
		if name == "" {
			return fmt.Errorf("%s is empty", names[i])
		}
	}
	switch n := len(w.line.Names); {
	case n < required:
		return fmt.Errorf("missing %s", names[n])
	case n > len(names) && !repeats:
		return fmt.Errorf("unexpected %q", w.line.Names[len(names)])
	}
	for _, o := range c.Options {
		if _, given := w.line.Option(o.Name); o.Required && !given {
			return fmt.Errorf("missing option %s", dashed(o.Name))
		}
	}
	return nil
}
