package grammar

// Foreign reads a line whose command is none of root's, so that [Parse] refused it: options of the
// program, prefixes, then a word. All that follows the word belongs to its command. After `help`
// that is "--help". It reports whether args are such a line.
func Foreign(root *Command, args []string) (line *Line, word string, rest []string, ok bool) {
	w := newWalk(root)
	for i, a := range args {
		if w.foreign(a) {
			if rest = args[i+1:]; w.asked {
				rest = []string{"--help"}
			}
			return w.line, a, rest, w.endOption() == nil
		}
		if w.word(a) != nil {
			break
		}
	}
	return nil, "", nil, false
}

// foreign reports whether a word stands where a command of the program does, and names none.
func (w *walk) foreign(a string) bool {
	atRoot := len(w.line.Path) == 1 && w.pending == nil && w.prefix == nil && !w.raw
	return atRoot && a != "" && a[0] != '-' && !Has(w.line.Path[0], a)
}

// Has reports whether root has a command of that name, or alias.
func Has(root *Command, name string) bool { return name == "help" || root.find(name) != nil }
