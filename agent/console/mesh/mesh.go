// Package mesh is the part of the command line that is about the mesh itself: who is in it, who
// gets in, who must leave, and how the ways to the others are. Each command is one or two requests
// to the agent and a table.
package mesh

import (
	"cmp"
	"fmt"
	"strings"

	"ztm/agent/console"
)

// commands holds the Actions of the commands.
type commands struct {
	*console.Console
}

// milliseconds shows a round trip.
func milliseconds(ms float64) string {
	switch {
	case ms <= 0:
		return "-"
	case ms < 10:
		return fmt.Sprintf("%.1fms", ms)
	}
	return fmt.Sprintf("%.0fms", ms)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// orNone shows a list.
func orNone(list []string) string { return cmp.Or(strings.Join(list, ", "), "-") }

// offers shows what an endpoint offers. An offer APP/NUMBER counts the changes of an app: people see
// that the app is there.
func offers(list []string) string {
	shown := make([]string, len(list))
	for i, offer := range list {
		shown[i] = offer
		if app, rest, _ := strings.Cut(offer, "/"); rest != "" && strings.Trim(rest, "0123456789") == "" {
			shown[i] = app
		}
	}
	return orNone(shown)
}
