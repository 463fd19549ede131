package external

import (
	"io"

	"ztm/apps/external/confine"
	"ztm/apps/external/run"
)

// Applet is what this binary does under the names by which it starts programs of others and watches
// over them. It reports whether args[0] is one of them, and with which status the process is to end.
func Applet(args []string, stdin io.Reader) (status int, is bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case confine.Applet:
		return confine.Main(args[1:]), true
	case run.WardenApplet:
		return run.Warden(stdin), true
	}
	return 0, false
}
