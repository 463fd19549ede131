package console

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/agent/console/grammar"
	"ztm/apps"
)

// Run runs a command line, without the program's name, and returns the status to exit with: 0, 1 on
// failure, 2 on wrong usage, or the status of an [apps.ExitError]. commands are those of the mesh
// and of the apps, which use this console. ctx ends when the user interrupts.
func (c *Console) Run(ctx context.Context, args []string, commands []*cli.Command) int {
	err := c.run(ctx, args, commands)
	if err == nil {
		return 0
	}
	if exit := (*apps.ExitError)(nil); errors.As(err, &exit) {
		return exit.Status
	}
	hint := ""
	if h := (*apps.HintError)(nil); errors.As(err, &h) {
		hint = h.Hint
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = errors.New("interrupted")
	}
	fail(c.cfg.Stderr, err, hint)
	if errors.As(err, new(*apps.UsageError)) {
		return 2
	}
	return 1
}

func (c *Console) run(ctx context.Context, args []string, commands []*cli.Command) error {
	c.forget()
	app := c.app(append(commands, c.Commands()...))
	root := tree(app)
	root.Missing = c.cfg.Missing
	if len(args) == 0 {
		args = []string{"help"}
	}
	if args[0] == "--version" { // as of most programs
		args = append([]string{"version"}, args[1:]...)
	}
	if args[0] == "__complete" {
		c.complete(ctx, root, toComplete(args[1:]))
		return nil
	}
	if args[0] == "__man" {
		return writePages(root, args[1:])
	}
	line, err := grammar.Parse(root, args)
	if err != nil {
		return c.foreign(ctx, root, args, err)
	}
	if line.Help {
		if len(line.Path) == 1 {
			c.bring(ctx, root, line)
		}
		return grammar.Help(c.cfg.Stdout, line.Path)
	}
	c.prefixes(line.Prefixes)
	if len(line.Names) > 0 {
		childless(app, line.Path)
	}
	return grammar.WithUsage(line, app.RunContext(ctx, append([]string{app.Name}, line.Canonical()...)))
}

// Check checks a command line as Run does, and runs nothing. With begins it may be the beginning of
// one.
func (c *Console) Check(args []string, commands []*cli.Command, begins bool) error {
	root := tree(c.app(append(commands, c.Commands()...)))
	if begins {
		return grammar.Begins(root, args)
	}
	_, err := grammar.Parse(root, args)
	return err
}

// toComplete takes apart the arguments of __complete: [-e] -- WORDS. With -e the word to complete
// is an empty one more.
func toComplete(args []string) []string {
	for i, a := range args {
		if a == "--" {
			words := args[i+1:]
			if i > 0 {
				words = append(words[:len(words):len(words)], "")
			}
			return words
		}
	}
	return nil
}

// app puts the commands under a root with the options that all of them have. The parser below is
// never asked for help and never finds a mistake in the line but in a value: that is done before it
// sees the line.
func (c *Console) app(commands []*cli.Command) *cli.App {
	app := &cli.App{
		Name:  "ztm",
		Usage: "reach services on your devices through a hub that cannot read what it carries",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Aliases: []string{"d"}, Usage: "data directory `DIR` of the agent", DefaultText: "~/.ztm, or $ZTM_DATA"},
			&cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print as `table|wide|json|yaml`", Value: "table"},
		},
		Commands:                  commands,
		Before:                    c.before,
		Reader:                    c.cfg.Stdin,
		Writer:                    c.cfg.Stdout,
		ErrWriter:                 c.cfg.Stderr,
		HideHelp:                  true,
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		OnUsageError:              usageError,
		ExitErrHandler:            func(*cli.Context, error) {}, // only main exits
	}
	adapt(commands)
	return app
}

func (c *Console) before(x *cli.Context) error {
	c.format = x.String("output") // one of the words that the option takes, see [grammar.Parse]
	if err := c.choose(x.String("data")); err != nil {
		return err
	}
	return c.settle(x.Context)
}

// adapt switches off, all the way down, what the parser would do by itself.
func adapt(commands []*cli.Command) {
	for _, cmd := range commands {
		cmd.HideHelp = true
		cmd.OnUsageError = usageError
		adapt(cmd.Subcommands)
	}
}

// usageError takes the parser's word for an option's value that makes no sense, and says what
// would.
func usageError(x *cli.Context, err error, _ bool) error {
	text := strings.Replace(err.Error(), " for flag -", " for option --", 1)
	if option, ok := strings.CutSuffix(text, ": parse error"); ok {
		text = option + ": want a whole number"
		for _, f := range x.Command.Flags {
			if d, ok := f.(*cli.DurationFlag); ok && strings.HasSuffix(option, " --"+d.Name) {
				text = option + ": want a time such as 90s, 30m or 24h"
			}
		}
	}
	return &apps.UsageError{Err: errors.New(text)}
}

// childless hides the subcommands of a command that has been given names: the parser would look for
// the first name among them.
func childless(app *cli.App, path []*grammar.Command) {
	commands := app.Commands
	for i, p := range path[1:] {
		for _, cmd := range commands {
			if cmd.Name != p.Name {
				continue
			}
			commands = cmd.Subcommands
			if i == len(path)-2 {
				cmd.Subcommands = nil
			}
			break
		}
	}
}

// tree is the app as the grammar sees it.
func tree(app *cli.App) *grammar.Command {
	root := &grammar.Command{Name: app.Name, Usage: app.Usage, Options: options(app.Flags), Commands: nodes(app.Commands)}
	root.Commands = append(root.Commands,
		&grammar.Command{
			Name: "mesh", Prefix: true, Args: "MESH", Usage: "run a command in a mesh: ztm mesh home get ep",
			Description: "It is needed only if several meshes are joined and none is the default. A command that is about the device and\n" +
				"not about a mesh refuses it.\n\n" +
				"Example:\n  ztm mesh home get ep",
		},
		&grammar.Command{
			Name: "ep", Aliases: []string{"endpoint"}, Prefix: true, Args: "[MESH/]EP", Usage: "run a command at another of your endpoints: ztm ep nas log ep",
			Description: "The endpoint must be yours. EP is its name or its ID. A command that cannot be run there says so and does nothing.\n\n" +
				"Example:\n  ztm ep office tunnel open outbound tcp/ssh --targets 127.0.0.1:22\n  ztm ep home/nas log ep",
		})
	return root
}

func nodes(commands []*cli.Command) []*grammar.Command {
	var out []*grammar.Command
	for _, cmd := range commands {
		out = append(out, &grammar.Command{
			Name: cmd.Name, Aliases: cmd.Aliases, Usage: cmd.Usage, Description: cmd.Description, Args: cmd.ArgsUsage,
			Synopsis: cmd.UsageText, About: cmd.Category,
			Options: options(cmd.Flags), Commands: nodes(cmd.Subcommands), Hidden: cmd.Hidden, Runs: cmd.Action != nil,
		})
	}
	return out
}

func options(flags []cli.Flag) []grammar.Option {
	var out []grammar.Option
	for _, f := range flags {
		o := grammar.Option{Name: f.Names()[0], Aliases: f.Names()[1:]}
		if d, ok := f.(cli.DocGenerationFlag); ok {
			o.Usage, o.Value = placeholder(d.GetUsage())
			switch {
			case !d.TakesValue():
				o.Kind = grammar.Bool
			case strings.HasPrefix(o.Value, "[") && strings.HasSuffix(o.Value, "]"):
				o.Kind, o.Value = grammar.Optional, o.Value[1:len(o.Value)-1]
			default:
				o.Kind = grammar.One
			}
			switch text := d.GetDefaultText(); text {
			case "", "0", "false", "0s":
			default:
				o.Default = strings.Trim(text, `"`)
			}
		}
		if s, ok := f.(cli.DocGenerationSliceFlag); ok && s.IsSliceFlag() {
			o.Kind = map[bool]grammar.Kind{false: grammar.List, true: grammar.OptionalList}[o.Kind == grammar.Optional]
		}
		if r, ok := f.(cli.RequiredFlag); ok {
			o.Required = r.IsRequired()
		}
		if v, ok := f.(cli.VisibleFlag); ok {
			o.Hidden = !v.IsVisible()
		}
		out = append(out, o)
	}
	return out
}

// placeholder returns the usage of a flag and the word in it that stands in backquotes, which names
// the value. Brackets around the word say that the value may be missing, and are for the list of
// options alone.
func placeholder(usage string) (text, value string) {
	before, rest, ok := strings.Cut(usage, "`")
	value, after, closed := strings.Cut(rest, "`")
	if !ok || !closed {
		return usage, ""
	}
	shown := value
	if inner, ok := strings.CutPrefix(value, "["); ok && strings.HasSuffix(inner, "]") {
		shown = strings.TrimSuffix(inner, "]")
	}
	return before + shown + after, value
}

// Commands are those that need no agent. [Console.Run] adds them by itself.
func (c *Console) Commands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "config", Category: apps.Device, Usage: "show or set the default agent and mesh",
			Description: "The settings are kept in ~/.ztm.conf. $ZTM_DATA and $ZTM_MESH override them, and options override both.\n\n" +
				"Example:\n  ztm config --mesh home\n  ztm config --data /var/lib/ztm",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "data", Aliases: []string{"d"}, Usage: "data directory `DIR` of the agent; empty for the usual one"},
				&cli.StringFlag{Name: "mesh", Usage: "use `MESH` if several are joined; empty for none"},
			},
			Action: func(x *cli.Context) error {
				if !x.IsSet("data") && !x.IsSet("mesh") {
					return c.showSettings()
				}
				if err := c.save(setting(x, "data"), setting(x, "mesh")); err != nil {
					return err
				}
				if mesh := x.String("mesh"); mesh != "" && !x.IsSet("data") {
					c.warnOfMesh(x.Context, mesh)
				}
				return nil
			},
			Subcommands: []*cli.Command{c.directCommand()},
		},
		{
			Name: "completion", Category: apps.Device, ArgsUsage: "bash|zsh|fish|powershell", Usage: "print the completion script of a shell",
			Description: "Example:\n  source <(ztm completion bash)\n  ztm completion fish > ~/.config/fish/completions/ztm.fish",
			Action:      func(x *cli.Context) error { return completion(c.cfg.Stdout, x.Args().First()) },
		},
		{
			Name: "install-links", Category: apps.Device, ArgsUsage: "DIR", Usage: "create the links ztm-hub and ztm-agent",
			Description: "It creates copies where the file system has no links. ztm-hub is `ztm run hub`, and ztm-agent is `ztm run agent`.\n\n" +
				"Example:\n  ztm install-links /usr/local/bin",
			Action: func(x *cli.Context) error {
				exe, err := os.Executable()
				if err != nil {
					return err
				}
				made, err := installLinks(exe, x.Args().First())
				for _, path := range made {
					c.Note("%s", path)
				}
				return err
			},
		},
		{
			Name: "version", Category: apps.Device, Usage: "show the version and the features of this binary",
			Description: "Example:\n  ztm version --json",
			Flags:       []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "the same as --output json"}},
			Action: func(x *cli.Context) error {
				if x.Bool("json") {
					c.format = "json"
				}
				return c.showVersion()
			},
		},
	}
}

// setting returns the value of an option that was given, or nil.
func setting(x *cli.Context, name string) *string {
	if !x.IsSet(name) {
		return nil
	}
	s := x.String(name)
	return &s
}

func (c *Console) showVersion() error {
	v := c.cfg.Version
	return c.Print(v, &apps.Table{Rows: [][]string{
		{"Tag:", v.Tag}, {"Commit:", cmp.Or(v.Commit, "-")}, {"Date:", cmp.Or(v.Date, "-")}, {"Go:", v.Go},
		{"Platform:", v.OS + "/" + v.Arch}, {"Features:", strings.Join(v.Features, ", ")},
	}})
}

// directCommand shows or sets with whom an endpoint meets without a hub.
func (c *Console) directCommand() *cli.Command {
	return &cli.Command{
		Name: "direct", Category: apps.AtEndpoint, ArgsUsage: "[auto|lan|off]", Usage: "show or set with whom an endpoint opens direct paths",
		Description: "Flows begin on the relay of a hub. When it is worth it, the two endpoints open a direct path. Neither listens on a\n" +
			"port: both dial at the same moment. The other endpoint learns the public address of this one. Endpoints of the same\n" +
			"user, and those in the same network, learn its local addresses as well.\n\n" +
			"auto  with endpoints of the same user, and with those of which a flow was accepted\n" +
			"lan   the same, in the local network only\n" +
			"off   with none; other endpoints cannot tell this from an old version\n\n" +
			"The setting is for one mesh. `ztm ping ep NAME` shows the path.\n\n" +
			"Example:\n  ztm config direct lan\n  ztm ep nas config direct off",
		Action: func(x *cli.Context) error { return c.direct(x.Context, x.Args().First()) },
	}
}
