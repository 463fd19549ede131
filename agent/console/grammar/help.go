package grammar

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// width is the number of columns that help fills.
const width = 80

// Help prints what the last command of the path is for, how it is used, and the options it has.
func Help(w io.Writer, path []*Command) error {
	var b strings.Builder
	c := path[len(path)-1]
	const before = "Usage: "
	for i, line := range strings.Split(usage(path), "\n") { // some commands are typed in two ways
		lead := before
		if i > 0 {
			lead = strings.Repeat(" ", len(before))
		}
		fmt.Fprintf(&b, "%s%s\n", lead, wrap(line, len(before)))
	}
	if c.Usage != "" {
		fmt.Fprintf(&b, "\n%s\n", wrap(capital(c.Usage)+".", 0))
	}
	if d := strings.TrimSpace(c.Description); d != "" {
		fmt.Fprintf(&b, "\n%s\n", d)
	}
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "\nAliases: %s\n", strings.Join(c.Aliases, ", "))
	}
	section(&b, "Commands", commandRows(c))
	section(&b, "Options", optionRows(c.Options))
	if len(path) > 1 {
		section(&b, "Common options", optionRows(left(path[0].Options, c)))
	}
	if len(c.Commands) > 0 {
		fmt.Fprintf(&b, "\nMore about a command: %s COMMAND --help\n", words(path))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// left is what a command leaves of the common options: a word that means one of its own means that alone.
func left(common []Option, c *Command) (rest []Option) {
	for _, o := range common {
		if c.option(o.Name) != nil {
			continue
		}
		o.Aliases = slices.DeleteFunc(slices.Clone(o.Aliases), func(alias string) bool { return c.option(alias) != nil })
		rest = append(rest, o)
	}
	return rest
}

// usage is the command as it is typed: "ztm join MESH --as NAME --permit FILE".
func usage(path []*Command) string {
	c := path[len(path)-1]
	if c.Synopsis != "" {
		return c.Synopsis
	}
	parts := []string{words(path)}
	switch {
	case c.Prefix:
		parts = append(parts, c.Args, "COMMAND")
	case len(c.Commands) > 0 && c.Runs && c.Args != "":
		parts = append(parts, c.Args+" | COMMAND")
	case len(c.Commands) > 0 && c.Runs:
		parts = append(parts, "[COMMAND]")
	case len(c.Commands) > 0:
		parts = append(parts, "COMMAND")
	case c.Args != "":
		parts = append(parts, c.Args)
	}
	optional := len(path) == 1
	for _, o := range c.Options {
		if o.Required {
			parts = append(parts, dashed(o.Name)+o.value())
		}
		optional = optional || !o.Required && !o.Hidden
	}
	if optional {
		parts = append(parts, "[OPTIONS]")
	}
	return strings.Join(parts, " ")
}

// value is what follows the option's name in help.
func (o Option) value() string {
	v := o.Value
	switch {
	case v == "":
		v = "VALUE"
	case choices(v):
		v = "WORD" // the usage says which
	}
	switch o.Kind {
	case Bool:
		return ""
	case Optional:
		return " [" + v + "]"
	case List:
		return " " + v + "..."
	case OptionalList:
		return " [" + v + "...]"
	}
	return " " + v
}

// ownAndCommon returns the commands whose options can be given to the last of the path: itself and
// the program.
func ownAndCommon(path []*Command) []*Command {
	if len(path) == 1 {
		return path
	}
	return []*Command{path[len(path)-1], path[0]}
}

func commandRows(c *Command) [][2]string {
	var rows [][2]string
	for _, s := range c.visible() {
		name := s.Name
		if s.Prefix {
			name += " " + s.Args
		}
		rows = append(rows, [2]string{name, capital(s.Usage)})
	}
	return rows
}

func optionRows(options []Option) [][2]string {
	var rows [][2]string
	for _, o := range options {
		if o.Hidden {
			continue
		}
		short := "    "
		var long []string
		for _, n := range append([]string{o.Name}, o.Aliases...) {
			if len(n) == 1 {
				short = "-" + n + ", "
			} else {
				long = append(long, "--"+n)
			}
		}
		text := o.Usage
		if o.Required {
			text += " (required)"
		}
		if o.Default != "" {
			text += " (default: " + o.Default + ")"
		}
		rows = append(rows, [2]string{strings.TrimSuffix(short+strings.Join(long, ", "), ", ") + o.value(), text})
	}
	return rows
}

// section prints rows in two aligned columns. A left cell that is too wide has the line to itself.
func section(b *strings.Builder, title string, rows [][2]string) {
	const widest = 34
	if len(rows) == 0 {
		return
	}
	column := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r[0]); n <= widest {
			column = max(column, n)
		}
	}
	if column == 0 {
		column = widest / 2
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	for _, r := range rows {
		gap := column - utf8.RuneCountInString(r[0]) + 2
		if gap < 2 {
			fmt.Fprintf(b, "  %s\n%s%s\n", r[0], strings.Repeat(" ", column+4), wrap(r[1], column+4))
			continue
		}
		fmt.Fprintf(b, "  %s%s%s\n", r[0], strings.Repeat(" ", gap), wrap(r[1], column+4))
	}
}

// capital begins a text with a capital letter.
func capital(text string) string {
	r, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[n:]
}

// wrap breaks text between words so that it fits; lines after the first are indented.
func wrap(text string, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case column+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += n
	}
	return b.String()
}
