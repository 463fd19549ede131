package apps

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/tunnel/metric"
)

// Kind is one kind of app as the rooms above see it: the agent makes an [App] of it in each mesh,
// the command line takes its commands. The package that has an app's command line has a function
// Kind; main alone lists them.
type Kind struct {
	Name string // the first segment of its paths, and its word on the command line
	New  func(Host) App

	// Commands returns what the app adds to the command line; nil adds nothing.
	Commands func(Console) Commands
}

// Commands are what an app adds to the command line. Every command that can be run says in its
// Category what it is about: see [AtEndpoint].
type Commands struct {
	Top []*cli.Command // `ztm tunnel`

	// These stand below the verbs that all apps share: `ztm get tunnel`, `ztm describe tunnel`,
	// `ztm stats tunnel`.
	Get, Describe, Stats []*cli.Command

	// Values lists what a name in capitals in the usage of its commands can stand for, for
	// completion: "tcp/NAME". A function that cannot find out returns nothing.
	Values map[string]func(context.Context) []string

	// Brought are commands that are not of this binary; nil is none. One app has them.
	Brought Brought
}

// Brought are the commands of programs that are installed at an endpoint. They are asked about where
// this binary has no command of a name: `ztm NAME ARG...`.
type Brought interface {
	// List returns what there is at the chosen endpoint, for help and completion. An error is an
	// empty list.
	List(ctx context.Context) []BroughtCommand

	// Run runs the command of that name with all that follows it, or reports that there is none.
	Run(ctx context.Context, name string, args []string) (known bool, err error)
}

// BroughtCommand is a command of an installed program, as its author describes it.
type BroughtCommand struct {
	Name  string
	Usage string // one line
}

// Add adds the commands of another app.
func (c *Commands) Add(more Commands) {
	c.Top = append(c.Top, more.Top...)
	c.Get = append(c.Get, more.Get...)
	c.Describe = append(c.Describe, more.Describe...)
	c.Stats = append(c.Stats, more.Stats...)
	if c.Values == nil {
		c.Values = map[string]func(context.Context) []string{}
	}
	maps.Copy(c.Values, more.Values)
	if more.Brought != nil {
		c.Brought = more.Brought
	}
}

// Measured is an [App] that has counters. They are asked for from any goroutine.
type Measured interface {
	App

	// Metrics adds the app's counters in its mesh. Their names begin with "ztm_" and the name of
	// the app.
	Metrics(w *metric.Writer)
}

// Usagef returns a [UsageError].
func Usagef(format string, args ...any) error { return &UsageError{Err: fmt.Errorf(format, args...)} }

// Example is the part of a command's Description that shows how it is typed.
func Example(lines ...string) string { return "Example:\n  " + strings.Join(lines, "\n  ") }

// NoArguments is wrong usage if a command has arguments.
func NoArguments(x *cli.Context) error {
	if x.Args().Present() {
		return Usagef("unexpected %q", x.Args().First())
	}
	return nil
}
