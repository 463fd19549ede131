package script

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/process"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind {
	return apps.Kind{Name: name, New: New, Commands: func(c apps.Console) apps.Commands {
		return apps.Commands{Top: []*cli.Command{commands(c)}}
	}}
}

// commands returns the command `ztm script`.
func commands(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      name,
		Category:  apps.AtEndpoint,
		Usage:     "run a script on one endpoint or on many",
		ArgsUsage: "FILE [-- ARGUMENT ...]",
		UsageText: "ztm script FILE|- [--ep EP ...] [--label LABEL ...] [OPTIONS] [-- ARGUMENT ...]",
		Description: "--with names the interpreter, or else the #! line does, or else the ending of FILE: .js runs in the built-in engine\n" +
			"(see: ztm script js --help), .py in python3, .ps1 in powershell, and a file without an ending in sh. The script\n" +
			"leaves no file behind.\n" +
			"On one endpoint, the script gets stdin, stdout and stderr of this command. The exit status is that of the script,\n" +
			"128 + N if signal N ended it, 124 if it ran out of time, 127 if there is no interpreter, and 255 if the connection\n" +
			"was lost. On many endpoints, stdin is read first and sent to each, lines of output begin with the name of the\n" +
			"endpoint, and the exit status is 1 if any script failed. -o json collects the output in the result.\n\n" + apps.Example(
			"ztm script deploy.sh --ep ep-office -- v1.2.3",
			"ztm ep ep-office script backup.py > backup.tar",
			"ztm script update.sh --label router --parallel 20 --timeout 5m",
			"echo uptime | ztm script - --ep ep-1 ep-2"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "ep", Usage: "run the script on `EP`"},
			&cli.StringSliceFlag{Name: "label", Usage: "run the script on all endpoints with `LABEL`"},
			&cli.StringFlag{Name: "with", Aliases: []string{"w"}, Usage: "use `INTERPRETER`: sh, python3, powershell, js, ..."},
			&cli.DurationFlag{Name: "timeout", Usage: "end the script after `DURATION`: 30s"},
			&cli.IntFlag{Name: "parallel", Aliases: []string{"p"}, Usage: "run on `NUMBER` endpoints at the same time", Value: 8},
			&cli.StringFlag{Name: "run-as", Usage: "run as `ACCOUNT` on the endpoint"},
			&cli.BoolFlag{Name: "no-stdin", Aliases: []string{"n"}, Usage: "do not read stdin; the script gets none"},
		},
		Subcommands: append([]*cli.Command{configCommand(c)}, engineCommands()...),
		Action:      func(x *cli.Context) error { return run(x, c) },
	}
}

// engineCommands returns the command by which this binary is its own JavaScript engine; none in a
// build without one. It needs no agent.
func engineCommands() []*cli.Command {
	js, ok := engine()
	if !ok {
		return nil
	}
	return []*cli.Command{{
		Name:        engineName,
		Category:    apps.Device,
		Usage:       "run a JavaScript program here",
		ArgsUsage:   "FILE [-- ARGUMENT ...]",
		UsageText:   "ztm script js FILE [-- ARGUMENT ...]",
		Description: js.help + "\n\n" + apps.Example("ztm script js report.js -- --verbose"),
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				return apps.Usagef("missing FILE")
			}
			status, err := js.run(x.Context, x.Args().First(), x.Args().Tail(), x.App.Reader, x.App.Writer, x.App.ErrWriter)
			if err == nil && status != 0 {
				err = &apps.ExitError{Status: status}
			}
			return err
		},
	}}
}

func run(x *cli.Context, c apps.Console) error {
	names := x.Args().Slice()
	switch {
	case len(names) == 0:
		return apps.Usagef("missing FILE")
	case x.Duration("timeout") < 0:
		return apps.Usagef("option --timeout: a time cannot be negative")
	case x.Int("parallel") < 1:
		return apps.Usagef("option --parallel: want at least 1")
	}
	eps, err := endpoints(x.Context, c, x.StringSlice("ep"), x.StringSlice("label"))
	if err != nil {
		return err
	}
	file := names[0]
	source, err := apps.ReadInput(c.Stdin(), file, maxSource)
	if err != nil {
		return err
	}
	f := &fleet{Console: c, source: source, parallel: x.Int("parallel"), start: start{
		Name: apps.Bytes(filepath.Base(file)), With: apps.Bytes(x.String("with")), Args: apps.AllBytes(names[1:]), Size: len(source),
		Limit: x.Duration("timeout").Milliseconds(), Account: apps.Bytes(x.String("run-as")), Lang: apps.AllBytes(language(os.Environ()))}}
	noStdin := x.Bool("no-stdin") || file == "-"
	output := x.String("output")
	f.capture = output == "json" || output == "yaml"
	if len(eps) == 1 && !f.capture {
		stdin := c.Stdin()
		if noStdin {
			stdin = nil
		}
		return f.one(x.Context, eps[0], stdin)
	}
	if !noStdin {
		if f.stdin, err = all(c.Stdin()); err != nil {
			return err
		}
	}
	return f.many(x.Context, eps)
}

// maxStdin is how much stdin many endpoints can be given, in bytes.
const maxStdin = 16 << 20

// all reads the stdin for many endpoints. A terminal gives them none: it would have to be typed
// before they begin.
func all(stdin io.Reader) ([]byte, error) {
	if f, ok := stdin.(*os.File); ok {
		if st, err := f.Stat(); err != nil || st.Mode()&os.ModeCharDevice != 0 {
			return nil, nil
		}
	}
	b, err := io.ReadAll(io.LimitReader(stdin, maxStdin+1))
	if err == nil && len(b) > maxStdin {
		err = &apps.HintError{Err: fmt.Errorf("stdin has more than %d bytes, too many for several endpoints", maxStdin),
			Hint: "with --no-stdin the scripts have no stdin"}
	}
	return b, err
}

// endpoints returns the endpoints that are named or have one of the labels, each once; the chosen
// one if there are no names and no labels. One that is offline is among them, and fails.
func endpoints(ctx context.Context, c apps.Console, names, labels []string) ([]apps.Endpoint, error) {
	if len(names) == 0 && len(labels) == 0 {
		ep, err := c.Trusted(ctx, "")
		return []apps.Endpoint{ep}, err
	}
	var eps []apps.Endpoint
	add := func(ep apps.Endpoint) {
		if !slices.ContainsFunc(eps, func(e apps.Endpoint) bool { return e.ID == ep.ID }) {
			eps = append(eps, ep)
		}
	}
	for _, n := range names {
		ep, err := c.Trusted(ctx, n)
		if err != nil {
			return nil, err
		}
		add(ep)
	}
	if len(labels) == 0 {
		return eps, nil
	}
	known, err := c.Endpoints(ctx, apps.Filter{})
	if err != nil {
		return nil, err
	}
	for _, label := range labels {
		found := false
		for _, ep := range known {
			if slices.Contains(ep.Labels, label) {
				found = true
				add(ep)
			}
		}
		if !found {
			return nil, fmt.Errorf("no endpoint has the label %q", label)
		}
	}
	return eps, nil
}

func configCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "config",
		Category:  apps.AtEndpoint,
		Usage:     "show or set who may run scripts at an endpoint",
		UsageText: "ztm [ep EP] script config [OPTIONS]",
		Description: "Your own user is always allowed. A user whom you add is as powerful as the account that scripts run as.\n" +
			"An option without a value restores the default.\n\n" + apps.Example(
			"ztm script config --add-user zt-user1 --run-as nobody",
			"ztm ep ep-office script config --remove-user zt-user1"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "add-user", Usage: "also let `USER` run scripts"},
			&cli.StringSliceFlag{Name: "remove-user", Aliases: []string{"del-user"}, Usage: "remove the access of `USER` and end their scripts"},
			&cli.StringFlag{Name: "run-as", Usage: "run as `[ACCOUNT]` on the endpoint, whose agent must run as root"},
			&cli.IntFlag{Name: "max-sessions", Usage: "allow `NUMBER` sessions at the same time; 0 for the default",
				DefaultText: fmt.Sprint(process.DefaultMaxSessions)},
		},
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			return config(x, c)
		},
	}
}

func config(x *cli.Context, c apps.Console) error {
	ep, err := c.Endpoint(x.Context)
	if err != nil {
		return err
	}
	change := process.RulesChange{AddUsers: x.StringSlice("add-user"), RemoveUsers: x.StringSlice("remove-user")}
	if x.IsSet("run-as") {
		account := apps.Bytes(x.String("run-as"))
		change.RunAs = &account
	}
	if x.IsSet("max-sessions") {
		n := x.Int("max-sessions")
		change.MaxSessions = &n
	}
	if err := c.CheckUsers(x.Context, change.AddUsers); err != nil {
		return err
	}
	var got process.Rules
	if x.NumFlags() > 0 {
		err = c.Call(x.Context, http.MethodPatch, name+"/config", change, &got)
	} else {
		err = c.Call(x.Context, http.MethodGet, name+"/config", nil, &got)
	}
	if err != nil {
		return err
	}
	return c.Print(got, &apps.Table{Rows: append([][]string{{"Endpoint", ep.Name}}, got.Describe()...)})
}
