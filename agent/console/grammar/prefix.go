// A prefix chooses what a command is about: `ztm mesh MESH ...`, `ztm ep [MESH/]EP ...`. A command
// that cannot heed the choice must not run without it: the wrong device would leave the mesh.

package grammar

import (
	"fmt"
	"slices"
	"strings"

	"ztm/apps"
)

// The prefixes.
const (
	meshPrefix = "mesh"
	epPrefix   = "ep"
)

// prefixed refuses a prefix that the command does not take. Where a prefix names what the first
// name of the command would be, it becomes that name.
func (w *walk) prefixed() error {
	c := w.line.Command()
	for prefix, value := range w.line.Prefixes {
		if !c.takes(prefix) {
			return refused(w.line, prefix, value)
		}
		if prefix == epPrefix && c.About != apps.AtEndpoint {
			continue
		}
		if o := c.option(prefix); o != nil {
			if _, given := w.line.Option(o.Name); given {
				return twice(prefix, value, dashed(o.Name))
			}
		}
		if strings.ToLower(c.argument(0)) != prefix {
			continue
		}
		if w.plain >= c.plainNames() {
			return twice(prefix, value, fmt.Sprintf("%q", w.line.Names[0]))
		}
		if prefix == epPrefix {
			value = value[strings.Index(value, "/")+1:]
		}
		w.line.Names = slices.Insert(w.line.Names, 0, value)
	}
	return nil
}

// plainNames is how many of the command's names can stand before "--".
func (c *Command) plainNames() int {
	before, _, _ := strings.Cut(c.Args, "[--")
	names, _, _ := (&Command{Args: before}).args()
	return len(names)
}

func refused(l *Line, prefix, value string) error {
	err := fmt.Errorf("%q cannot be run with the prefix %q", words(l.Path), prefix+" "+value)
	if l.Command().About == apps.InMesh {
		return hinted(err, "it is about the mesh as a whole: leave out the prefix, or choose the mesh with: ztm mesh MESH")
	}
	return hinted(err, "it is about the device on which it is run: leave out the prefix, or run it on the other device")
}

func twice(prefix, value, other string) error {
	return fmt.Errorf("the %s is named twice: with the prefix %q and with %s",
		map[string]string{meshPrefix: "mesh", epPrefix: "endpoint"}[prefix], prefix+" "+value, other)
}
