package grammar

import (
	"fmt"
	"strings"

	"ztm/apps"
)

func hinted(err error, hint string) error { return &apps.HintError{Err: err, Hint: hint} }

func missingCommand(l *Line) error {
	if len(l.Path) == 1 {
		for name, value := range l.Prefixes {
			return hinted(fmt.Errorf("missing command after %q", name+" "+value), "see: ztm help")
		}
		return hinted(fmt.Errorf("missing command"), "see: ztm help")
	}
	return hinted(fmt.Errorf("missing command after %q", words(l.Path)), oneOf(l.Command()))
}

// oneOf lists the commands below another.
func oneOf(c *Command) string {
	var names []string
	for _, s := range c.visible() {
		names = append(names, s.Name)
	}
	return "one of: " + strings.Join(names, ", ")
}

func unknownCommand(path []*Command, name string) error {
	c := path[len(path)-1]
	var known []string
	for _, s := range c.visible() {
		known = append(append(known, s.Name), s.Aliases...)
	}
	given := words(append(path[1:len(path):len(path)], &Command{Name: name}))
	if f := path[0].Missing; f != nil && f(given) != "" {
		return hinted(fmt.Errorf("%q is not in this build of ztm: it comes with the feature %q", given, f(given)),
			"other builds have it; this one: ztm version")
	}
	err := fmt.Errorf("unknown command %q", given)
	if now := replacement(given); now != "" {
		return hinted(err, now)
	}
	if near := nearest(name, known); near != "" {
		return hinted(err, fmt.Sprintf("did you mean %q?", near))
	}
	if len(path) > 1 {
		return hinted(err, oneOf(c))
	}
	return hinted(err, "see: "+words(path)+" --help")
}

func unknownOption(path []*Command, given string) error {
	name, _, _ := strings.Cut(given, "=")
	var known []string
	for _, c := range ownAndCommon(path) {
		for _, o := range c.Options {
			if !o.Hidden {
				known = append(known, o.Name)
			}
		}
	}
	err := fmt.Errorf("unknown option %q", name)
	if now := replacement(words(path[1:]) + " " + name); now != "" {
		return hinted(err, now)
	}
	if near := nearest(strings.TrimLeft(name, "-"), known); near != "" {
		return hinted(err, fmt.Sprintf("did you mean %q?", dashed(near)))
	}
	return hinted(err, "see: "+words(path)+" --help")
}

// words joins the names of commands.
func words(path []*Command) string {
	var out []string
	for _, c := range path {
		out = append(out, c.Name)
	}
	return strings.Join(out, " ")
}

// nearest returns the known word that name was most likely meant to be, or "" if none is near.
func nearest(name string, known []string) string {
	best, limit := "", max(1, min(2, (len(name)-1)/2), len(name)/3)
	for _, k := range known {
		if d := distance(name, k); d <= limit && d < len(k) {
			best, limit = k, d-1
		}
	}
	return best
}

// distance is the number of insertions, deletions, substitutions and swaps of neighbours that make
// b of a (optimal string alignment). Words longer than any command are not compared.
func distance(a, b string) int {
	const longest = 64
	if len(a) > longest || len(b) > longest {
		return longest
	}
	var d [longest + 1][longest + 1]int
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j], d[i][j-1], d[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}
