package terminal

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/tunnel/unixtime"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind {
	return apps.Kind{Name: name, New: New, Commands: func(c apps.Console) apps.Commands {
		return apps.Commands{Top: []*cli.Command{commands(c)}}
	}}
}

// commands returns the command `ztm terminal`.
func commands(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:  name,
		Usage: "open a shell or run a command on another endpoint",
		Description: apps.Example(
			"ztm terminal open ep-office",
			"ztm terminal open ep-office -- uname -a",
			"tar c . | ztm terminal open ep-office -- tar x -C /tmp"),
		Subcommands: []*cli.Command{openCommand(c), attachCommand(c), sessionsCommand(c), configCommand(c)},
	}
}

func openCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "open",
		Category:  apps.AtEndpoint,
		Usage:     "open a shell, or run a command",
		ArgsUsage: "[EP] [-- COMMAND ...]",
		UsageText: "ztm terminal open EP [OPTIONS] [-- COMMAND [ARGUMENT ...]]\n       ztm ep EP terminal open [OPTIONS] [-- COMMAND [ARGUMENT ...]]",
		Description: "Without COMMAND it opens the login shell of the endpoint in this window. At the beginning of a line, ~. leaves a\n" +
			"session that does not answer, and ~? lists the other escapes. With COMMAND there is no terminal: stdin, stdout and\n" +
			"stderr carry the bytes of the command unchanged. The exit status is that of the shell or command, 128 + N if\n" +
			"signal N ended it, 127 if it was not found, and 255 if the connection was lost.\n\n" + apps.Example(
			"ztm terminal open ep-office",
			"ztm terminal open ep-office --keep --run-as www-data",
			"ztm terminal open ep-office -t -- top",
			"ztm terminal open ep-office -- tar c -C /srv www | tar x"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}, Usage: "give the command a terminal"},
			&cli.BoolFlag{Name: "keep", Aliases: []string{"k"}, Usage: "keep the session alive when the connection is lost"},
			&cli.StringFlag{Name: "run-as", Usage: "run as `ACCOUNT` on the endpoint"},
			escapeFlag(),
		},
		Action: func(x *cli.Context) error {
			ep, command, err := target(c, x)
			if err != nil {
				return err
			}
			o, err := openerOf(c, x)
			if err != nil {
				return err
			}
			st := start{Command: apps.AllBytes(command), Env: apps.AllBytes(language(os.Environ())), Account: apps.Bytes(x.String("run-as")), Keep: x.Bool("keep")}
			o.tty = x.Bool("tty") || len(st.Command) == 0 && o.window != nil
			if st.Keep && !o.tty {
				return apps.Usagef("--keep is for a session with a terminal: say --tty, too")
			}
			return o.open(x.Context, ep, st)
		},
	}
}

// target returns the endpoint that is named first, and the names behind it. The `ep` prefix is a
// way to name it.
func target(c apps.Console, x *cli.Context) (ep apps.Endpoint, names []string, err error) {
	if !x.Args().Present() {
		return ep, nil, apps.Usagef("missing EP")
	}
	ep, err = c.Trusted(x.Context, x.Args().First())
	return ep, x.Args().Tail(), err
}

func escapeFlag() cli.Flag {
	return &cli.StringFlag{Name: "escape", Aliases: []string{"e"}, Usage: "begin escapes with `CHARACTER`; none for no escapes", Value: "~"}
}

func openerOf(c apps.Console, x *cli.Context) (*opener, error) {
	o := newOpener(c)
	switch e := x.String("escape"); {
	case e == "none":
	case len(e) == 1 && e[0] > ' ' && e[0] <= '~' && e[0] != '.' && e[0] != '?':
		o.escape = e[0]
	default:
		return nil, apps.Usagef("--escape takes one character, or none")
	}
	return o, nil
}

// language returns what of an environment goes with the caller.
func language(environ []string) []string {
	var env []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if carried(name) && len(value) <= maxEnvValue && len(env) < maxEnv {
			env = append(env, kv)
		}
	}
	return env
}

func attachCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "attach",
		Category:    apps.AtEndpoint,
		Usage:       "return to a kept session",
		ArgsUsage:   "[EP] [SESSION]",
		UsageText:   "ztm terminal attach EP [SESSION]",
		Description: "It shows the last output of the session again. If the session is attached to another window, that window loses it.\n\n" + apps.Example("ztm terminal attach ep-office"),
		Flags:       []cli.Flag{escapeFlag()},
		Action: func(x *cli.Context) error {
			ep, ids, err := target(c, x)
			if err != nil {
				return err
			}
			if len(ids) > 1 {
				return apps.Usagef("unexpected %q", ids[1])
			}
			o, err := openerOf(c, x)
			if err != nil {
				return err
			}
			return o.attach(x.Context, ep, strings.Join(ids, ""))
		},
	}
}

func sessionsCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "sessions",
		Category:  apps.AtEndpoint,
		Aliases:   []string{"ls"},
		Usage:     "list the sessions at an endpoint, or end one",
		ArgsUsage: "[EP]",
		UsageText: "ztm terminal sessions [EP] [--end SESSION]",
		Description: "It lists your own sessions, or all sessions if the endpoint is yours.\n\n" + apps.Example(
			"ztm terminal sessions ep-office", "ztm terminal sessions ep-office --end 1f0a92c4"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "end", Usage: "end `SESSION`"}},
		Action: func(x *cli.Context) error {
			ep, err := endpoint(c, x)
			if err != nil {
				return err
			}
			if id := x.String("end"); id != "" {
				return end(x.Context, c, ep, id)
			}
			list, err := sessions(x.Context, c, ep)
			if err != nil {
				return err
			}
			return c.Print(list, table(x.Context, c, list))
		},
	}
}

// endpoint returns the endpoint that is named, or else the chosen one.
func endpoint(c apps.Console, x *cli.Context) (apps.Endpoint, error) {
	if x.Args().Present() {
		return c.Resolve(x.Context, x.Args().First())
	}
	return c.Endpoint(x.Context)
}

func table(ctx context.Context, c apps.Console, list []process.Info) *apps.Table {
	names := map[string]string{}
	if eps, err := c.Endpoints(ctx, apps.Filter{}); err == nil { // else their IDs do
		for _, e := range eps {
			names[string(e.ID)] = e.Name
		}
	}
	t := &apps.Table{Header: []string{"SESSION", "USER", "FROM", "AS", "STATE", "SINCE", "IDLE", "PROGRAM"}}
	for _, i := range list {
		from, state := string(i.Peer), "open"
		if n := names[from]; n != "" {
			from = n
		}
		if i.Keep {
			state = map[bool]string{true: "kept, attached", false: "kept"}[i.Attached]
		}
		t.Add(i.ID, i.User, from, i.Account.String(), state, unixtime.Text(i.Since),
			time.Duration(i.Idle).Truncate(time.Second).String(), i.Program.String())
	}
	return t
}

func configCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "config",
		Category:  apps.AtEndpoint,
		Usage:     "show or set who may open terminals at an endpoint, and how",
		UsageText: "ztm [ep EP] terminal config [OPTIONS]",
		Description: "Your own user is always allowed. A user whom you add is as powerful as the account that the shell runs as.\n" +
			"An option without a value restores the default.\n\n" + apps.Example(
			"ztm terminal config --add-user zt-user1 --run-as nobody",
			"ztm ep ep-office terminal config --set-shell /bin/zsh --idle-timeout 30m",
			"ztm terminal config --record /var/log/ztm-terminal"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "add-user", Usage: "also let `USER` open terminals"},
			&cli.StringSliceFlag{Name: "remove-user", Aliases: []string{"del-user"}, Usage: "remove the access of `USER` and end their sessions"},
			&cli.StringFlag{Name: "set-shell", Usage: "use `[COMMAND]` as the shell: a program and its arguments, separated by spaces"},
			&cli.StringFlag{Name: "run-as", Usage: "run as `[ACCOUNT]` on the endpoint, whose agent must run as root"},
			&cli.StringFlag{Name: "record", Usage: "record all sessions in directory `[DIR]`, as asciicast v2"},
			&cli.StringFlag{Name: "idle-timeout", Usage: "end a session after `[DURATION]` without input and output: 30m"},
			&cli.IntFlag{Name: "max-sessions", Usage: "allow `NUMBER` sessions at the same time; 0 for the default", DefaultText: fmt.Sprint(process.DefaultMaxSessions)},
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
	change, any, err := changeOf(x)
	if err != nil {
		return err
	}
	if err := c.CheckUsers(x.Context, change.AddUsers); err != nil {
		return err
	}
	var got Config
	if any {
		err = c.Call(x.Context, http.MethodPatch, name+"/config", change, &got)
	} else {
		err = c.Call(x.Context, http.MethodGet, name+"/config", nil, &got)
	}
	if err != nil {
		return err
	}
	t := &apps.Table{Rows: [][]string{{"Endpoint", ep.Name}, {"Shell", cmp.Or(got.Shell.String(), "(default)")}}}
	t.Rows = append(t.Rows, got.Describe()...)
	t.Add("Idle Timeout", cmp.Or(map[bool]string{true: got.idle().String()}[got.IdleTimeout > 0], "(none)"))
	t.Add("Recordings", cmp.Or(got.Record.String(), "(none)"))
	return c.Print(got, t)
}

// changeOf returns the change that the options ask for, and whether there is any.
func changeOf(x *cli.Context) (change Change, any bool, err error) {
	change.AddUsers, change.RemoveUsers = x.StringSlice("add-user"), x.StringSlice("remove-user")
	text := func(name string) *apps.Bytes {
		if !x.IsSet(name) {
			return nil
		}
		s := apps.Bytes(x.String(name))
		return &s
	}
	change.Shell, change.RunAs, change.Record = text("set-shell"), text("run-as"), text("record")
	if s := text("idle-timeout"); s != nil {
		var d apps.Duration
		if *s != "" {
			if d, err = apps.ParseDuration(string(*s)); err != nil {
				return change, false, apps.Usagef("option --idle-timeout: %w", err)
			}
		}
		change.IdleTimeout = &d
	}
	if x.IsSet("max-sessions") {
		n := x.Int("max-sessions")
		change.MaxSessions = &n
	}
	return change, x.NumFlags() > 0, nil
}
