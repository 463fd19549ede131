package grammar

import "strings"

// Candidate is a word that could come next.
type Candidate struct {
	Word  string
	Usage string // one line about it; may be empty
}

// Next is what could come next on a command line.
type Next struct {
	Words []Candidate // from the tree
	Value string      // the name that stands for a value here, "EP" or "FILE"; the caller knows the values
	Glue  string      // what is already typed of the word before the value: "--exits="
	Typed string      // what is typed of the word or value; Words all begin with it
	Line  *Line       // what was read so far; it was not checked
	First bool        // a command of the program itself comes next
}

// Complete says what the last word, which may be empty, could become. A line that is wrong has no
// completion.
func Complete(root *Command, typed []string) Next {
	w := newWalk(root)
	if len(typed) == 0 {
		typed = []string{""}
	}
	last := typed[len(typed)-1]
	for _, a := range typed[:len(typed)-1] {
		if err := w.word(a); err != nil || w.line.Help && !w.asked {
			return Next{Line: w.line}
		}
	}
	n := Next{Line: w.line, Typed: last}
	c := w.line.Command()
	switch {
	case w.raw:
		n.Value = c.argument(len(w.line.Names))
	case strings.HasPrefix(last, "--") && strings.Contains(last, "="):
		name, value, _ := strings.Cut(last, "=")
		if o, _ := w.declared(name[2:]); o != nil && o.Kind != Bool {
			n.Value, n.Glue, n.Typed = o.Value, name+"=", value
		}
	case strings.HasPrefix(last, "-") && !(w.pending != nil && w.taken == 0 && w.pending.Kind == One):
		n.options(w)
	case w.pending != nil:
		n.Value = w.pending.Value
	case w.prefix != nil:
		n.Value = w.prefix.argument(0)
	default:
		n.First = len(w.line.Path) == 1 && len(w.line.Names) == 0
		n.commands(w, c)
	}
	n.alternatives()
	return n
}

// alternatives offers the words themselves where they stand in place of a name: "bash|zsh".
func (n *Next) alternatives() {
	if !choices(n.Value) {
		return
	}
	for word := range strings.SplitSeq(n.Value, "|") {
		if strings.HasPrefix(word, n.Typed) {
			n.Words = append(n.Words, Candidate{Word: n.Glue + word})
		}
	}
	n.Value = ""
}

func (n *Next) commands(w *walk, c *Command) {
	if len(w.line.Names) == 0 {
		for _, s := range c.visible() {
			if strings.HasPrefix(s.Name, n.Typed) && s.leads(w.line.Prefixes) {
				n.Words = append(n.Words, Candidate{s.Name, s.Usage})
			}
		}
	}
	if len(c.Commands) == 0 || c.Runs {
		n.Value = c.argument(len(w.line.Names))
	}
}

// options offers the options that can still be given.
func (n *Next) options(w *walk) {
	own := w.line.Command()
	for _, c := range ownAndCommon(w.line.Path) {
		for _, o := range c.Options {
			word := "--" + o.Name
			_, given := w.line.Option(o.Name)
			shadowed := c != own && own.option(o.Name) != nil
			if o.Hidden || !strings.HasPrefix(word, n.Typed) || shadowed || given && o.Kind != List && o.Kind != OptionalList {
				continue
			}
			n.Words = append(n.Words, Candidate{word, o.Usage})
		}
	}
	if strings.HasPrefix("--help", n.Typed) {
		n.Words = append(n.Words, Candidate{"--help", "show help"})
	}
}
