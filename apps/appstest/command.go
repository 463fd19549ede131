package appstest

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/apps"
)

// Result is what a command line leaves.
type Result struct {
	Out, Err string
	Status   int    // of an [apps.ExitError]
	Failure  string // the text of any other error
}

// RunCommand runs a command of an app. Options of the whole command line, such as "-o=json", come
// first in args; then the arguments, in the order that the flag parser wants: flags before all
// others.
func RunCommand(c *cli.Command, args ...string) error {
	app := &cli.App{Commands: []*cli.Command{c}, Writer: io.Discard, ErrWriter: io.Discard, HideHelp: true, HideVersion: true,
		DisableSliceFlagSeparator: true, ExitErrHandler: func(*cli.Context, error) {},
		Flags: []cli.Flag{&cli.StringFlag{Name: "output", Aliases: []string{"o"}}}}
	c.HideHelp = true // of which the library has one for all, and writes into it
	for _, sub := range c.Subcommands {
		sub.HideHelp = true
	}
	line := []string{"ztm"}
	for len(args) > 0 && strings.HasPrefix(args[0], "-o=") {
		line, args = append(line, args[0]), args[1:]
	}
	return app.Run(append(append(line, c.Name), args...))
}

// Capture runs something at the console, whose Out and Err it sets, and returns what that leaves.
func (c *Console) Capture(run func() error) Result {
	var out, errs bytes.Buffer
	c.Out, c.Err = &out, &errs
	err := run()
	r := Result{Out: out.String(), Err: errs.String()}
	if exit := (*apps.ExitError)(nil); errors.As(err, &exit) {
		r.Status = exit.Status
	} else if err != nil {
		r.Failure = err.Error()
	}
	return r
}
