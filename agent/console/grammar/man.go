//go:build !ztm_router

package grammar

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Man prints the last command of the path as a page of man(7), in section 1. It says what [Help]
// says.
func Man(w io.Writer, path []*Command) error {
	var b strings.Builder
	c := path[len(path)-1]
	fmt.Fprintf(&b, ".TH %s 1 \"\" ztm \"Manual of ztm\"\n", strings.ToUpper(PageName(path)))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(PageName(path)), roff(c.Usage))
	b.WriteString(".SH SYNOPSIS\n")
	for _, line := range strings.Split(usage(path), "\n") {
		fmt.Fprintf(&b, "%s\n.br\n", roff(line))
	}
	text, example, _ := strings.Cut("\n"+c.Description, "\nExample:\n")
	b.WriteString(".SH DESCRIPTION\n" + roff(capital(c.Usage)+".") + "\n" + roffParagraphs(text))
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, ".PP\nAliases: %s\n", roff(strings.Join(c.Aliases, ", ")))
	}
	roffRows(&b, "COMMANDS", commandRows(c))
	roffRows(&b, "OPTIONS", optionRows(c.Options))
	if len(path) > 1 {
		common := slices.DeleteFunc(slices.Clone(path[0].Options), func(o Option) bool { return c.option(o.Name) != nil })
		roffRows(&b, "COMMON OPTIONS", optionRows(common))
	}
	if example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(strings.TrimRight(example, "\n")) + "\n.fi\n")
	}
	roffSeeAlso(&b, path)
	_, err := io.WriteString(w, b.String())
	return err
}

// PageName is the name of the page of a command: "ztm-tunnel-open".
func PageName(path []*Command) string { return strings.ReplaceAll(words(path), " ", "-") }

// Walk calls a function with the path of each command that help shows, the program first.
func Walk(path []*Command, visit func([]*Command) error) error {
	if err := visit(path); err != nil {
		return err
	}
	for _, s := range path[len(path)-1].visible() {
		if err := Walk(append(slices.Clone(path), s), visit); err != nil {
			return err
		}
	}
	return nil
}

// roffSeeAlso names the pages above and below.
func roffSeeAlso(b *strings.Builder, path []*Command) {
	var pages []string
	if len(path) > 1 {
		pages = append(pages, PageName(path[:len(path)-1]))
	}
	for _, s := range path[len(path)-1].visible() {
		pages = append(pages, PageName(append(slices.Clone(path), s)))
	}
	if len(pages) == 0 {
		return
	}
	b.WriteString(".SH SEE ALSO\n")
	for i, p := range pages {
		fmt.Fprintf(b, ".BR %s (1)%s\n", roff(p), map[bool]string{true: ","}[i < len(pages)-1])
	}
}

func roffRows(b *strings.Builder, title string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, r := range rows {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR\n%s\n", roff(strings.TrimSpace(r[0])), roff(r[1]))
	}
}

// roffParagraphs sets paragraphs that are divided by empty lines. One with indented lines keeps its
// lines.
func roffParagraphs(text string) string {
	var b strings.Builder
	for _, p := range strings.Split(text, "\n\n") {
		switch p = strings.Trim(p, "\n"); {
		case p == "":
		case strings.Contains("\n"+p, "\n "):
			b.WriteString(".PP\n.nf\n" + roff(p) + "\n.fi\n")
		default:
			b.WriteString(".PP\n" + roff(p) + "\n")
		}
	}
	return b.String()
}

// roff is a text that no line of which is a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}
