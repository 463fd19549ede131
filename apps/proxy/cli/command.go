// Package cli is the command `ztm proxy`: it asks the API of the chosen endpoint and prints the answer.
package cli

import (
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/proxy"
	"ztm/apps/proxy/policy"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind {
	return apps.Kind{Name: "proxy", New: proxy.New, Commands: func(c apps.Console) apps.Commands {
		return apps.Commands{Top: []*cli.Command{commands(c)}}
	}}
}

// commands returns the command `ztm proxy`.
func commands(c apps.Console) *cli.Command {
	m := manager{c}
	return &cli.Command{
		Name:  "proxy",
		Usage: "reach networks through other endpoints by SOCKS and HTTP",
		Description: apps.Example(
			"ztm proxy config --add-target '*.svc.cluster.local'    # where the services are",
			"ztm proxy config --set-listen 0.0.0.0:1080             # where they are wanted",
			"curl -x http://127.0.0.1:1080 http://svc-a.svc:8080"),
		Subcommands: []*cli.Command{configCommand(m), rulesCommand(m), statusCommand(m), whereCommand(m)},
	}
}

func configCommand(m manager) *cli.Command {
	return &cli.Command{
		Name:      "config",
		Category:  apps.AtEndpoint,
		Usage:     "show or change the proxy of an endpoint",
		UsageText: "ztm proxy config [OPTIONS]",
		Description: "A PATTERN is a name, *.SUFFIX, an address, a network such as 10.43.0.0/16, or *. Ports may follow it:\n" +
			"*.example.com:443,8000-8100. Names are resolved where the connection leaves the mesh, and the addresses are\n" +
			"checked again there. Addresses of the exit itself (127.0.0.0/8, 169.254.0.0/16 and the like)\n" +
			"and of cloud metadata services are targets only if they are named; * does not name them. A short name goes to\n" +
			"the exit that serves it with a search domain of that exit's /etc/resolv.conf appended: svc-a.svc as\n" +
			"svc-a.svc.cluster.local. A trailing dot prevents that.\n\n" +
			"Clients use the exits of your own user. They use exits of other users if you trust the user or name the exit with\n" +
			"--add-via, and if the rules of the exit allow it. An exit sees what passes. Browsers find their settings at\n" +
			"http://LISTEN/proxy.pac.\n\n" + apps.Example(
			"ztm proxy config --set-listen 1080 unix:/run/proxy.sock",
			"ztm proxy config --add-target 10.43.0.0/16 '*.svc.cluster.local' --add-exclusion 10.43.0.1",
			"ztm proxy config --add-via '*.corp.example.com=ep-office' --add-direct '*.example.com'",
			"ztm proxy config --add-credential alice < password.txt"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "set-listen", Usage: "listen only on `[ADDRESS]`, [IP:]PORT or unix:PATH; without a value, close all"},
			&cli.StringSliceFlag{Name: "add-target", Usage: "be an exit for `PATTERN`"},
			&cli.StringSliceFlag{Name: "remove-target", Usage: "stop being an exit for `PATTERN`"},
			&cli.StringSliceFlag{Name: "add-exclusion", Usage: "exclude `PATTERN` from the targets"},
			&cli.StringSliceFlag{Name: "remove-exclusion", Usage: "stop excluding `PATTERN`"},
			&cli.StringSliceFlag{Name: "add-via", Aliases: []string{"via"}, Usage: "route a pattern to one exit: `PATTERN=EP`"},
			&cli.StringSliceFlag{Name: "add-direct", Aliases: []string{"direct"}, Usage: "connect directly to `PATTERN`, not through an exit"},
			&cli.StringSliceFlag{Name: "remove-via", Usage: "remove the route of `PATTERN`, added by --add-via or --add-direct"},
			&cli.StringSliceFlag{Name: "add-trust", Aliases: []string{"trust"}, Usage: "use the exits of `USER` like your own; * for every user"},
			&cli.StringSliceFlag{Name: "remove-trust", Aliases: []string{"distrust"}, Usage: "stop using the exits of `USER`"},
			&cli.StringFlag{Name: "default", Usage: "handle what no exit serves: `refuse|direct`"},
			&cli.StringFlag{Name: "dns", Usage: "answer DNS on `[ADDRESS]`, [IP:]PORT; without a value, stop"},
			&cli.StringFlag{Name: "add-credential", Usage: "let `USER` in with a password, which is read from standard input"},
			&cli.StringFlag{Name: "remove-credential", Usage: "stop letting `USER` in"},
		},
		Action: func(x *cli.Context) error {
			ch, err := changeOf(x)
			if err == nil && ch != nil {
				if i := slices.IndexFunc(ch.Trust, func(u string) bool { return !apps.IsUser(u) && u != policy.Everyone }); i >= 0 {
					return apps.Usagef("--add-trust %q is not the name of a user", ch.Trust[i])
				}
				err = m.CheckUsers(x.Context, ch.Trust)
			}
			if err != nil {
				return err
			}
			return m.config(x.Context, ch, x.String("add-credential"), x.String("remove-credential"))
		},
	}
}

// changeOf reads the change that the options ask for, nil if they ask for none.
func changeOf(x *cli.Context) (*proxy.Change, error) {
	if err := apps.NoArguments(x); err != nil {
		return nil, err
	}
	ch := &proxy.Change{
		AddTargets: x.StringSlice("add-target"), RemoveTargets: x.StringSlice("remove-target"),
		AddExclusions: x.StringSlice("add-exclusion"), RemoveExclusions: x.StringSlice("remove-exclusion"),
		Direct: x.StringSlice("add-direct"), RemoveRoutes: x.StringSlice("remove-via"),
		Trust: x.StringSlice("add-trust"), Distrust: x.StringSlice("remove-trust"),
	}
	if x.IsSet("set-listen") {
		listens := []string{}
		for _, l := range x.StringSlice("set-listen") {
			switch {
			case !utf8.ValidString(l):
				return nil, apps.Usagef("option --set-listen: %q: want a path in UTF-8", l)
			case l != "" && l != "off":
				listens = append(listens, l)
			}
		}
		ch.SetListens = &listens
	}
	for _, text := range x.StringSlice("add-via") {
		pattern, ep, ok := strings.Cut(text, "=")
		if !ok || ep == "" {
			return nil, apps.Usagef("option --add-via: %q: want PATTERN=EP", text)
		}
		if ch.Via == nil {
			ch.Via = map[string]string{}
		}
		ch.Via[pattern] = ep
	}
	if x.IsSet("default") {
		v := x.String("default")
		ch.Default = &v
	}
	if x.IsSet("dns") {
		v := strings.TrimSuffix(x.String("dns"), "off")
		ch.DNS = &v
	}
	changes := 0
	for _, name := range x.LocalFlagNames() {
		if !strings.HasSuffix(name, "-credential") {
			changes++
		}
	}
	if changes == 0 {
		return nil, nil
	}
	return ch, nil
}

func rulesCommand(m manager) *cli.Command {
	return &cli.Command{
		Name:      "rules",
		Category:  apps.AtEndpoint,
		Usage:     "show or change who may reach what through an exit",
		UsageText: "ztm proxy rules [--index N] [--insert | --remove] [--users USER ...] [--targets PATTERN ...] [--action allow|deny]",
		Description: "The first rule that matches the user and the destination decides. If none matches, your own user may and others\n" +
			"may not. Without --index, a rule is appended. With it, rule N is changed, removed (--remove), or one is inserted\n" +
			"before it (--insert).\n\n" + apps.Example(
			"ztm proxy rules --users bob carol --targets '*.svc.cluster.local:443' --action allow",
			"ztm proxy rules --index 0 --insert --users bob --targets 10.43.0.1 --action deny",
			"ztm proxy rules --index 2 --remove"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "index", Usage: "act on rule number `N`"},
			&cli.BoolFlag{Name: "insert", Usage: "insert a rule before it"},
			&cli.BoolFlag{Name: "remove", Aliases: []string{"delete"}, Usage: "remove the rule"},
			&cli.StringSliceFlag{Name: "users", Usage: "match `USER`; * for every user of the mesh"},
			&cli.StringSliceFlag{Name: "targets", Usage: "match the destination `PATTERN`"},
			&cli.StringFlag{Name: "action", Usage: "decide `allow|deny`"},
		},
		Action: func(x *cli.Context) error {
			edit, err := editOf(m, x)
			if err == nil {
				err = m.CheckUsers(x.Context, x.StringSlice("users"))
			}
			if err != nil {
				return err
			}
			return m.rules(x.Context, edit)
		},
	}
}

// editOf reads the change of the rules that the options ask for, nil if they ask for none.
func editOf(m manager, x *cli.Context) (func(*[]policy.Rule) error, error) {
	if err := apps.NoArguments(x); err != nil {
		return nil, err
	}
	r := policy.Rule{Users: x.StringSlice("users"), Targets: x.StringSlice("targets"), Action: x.String("action")}
	given := len(r.Users)+len(r.Targets) > 0 || r.Action != ""
	at := x.String("index")
	if _, err := strconv.ParseUint(at, 10, 16); at != "" && err != nil {
		return nil, apps.Usagef("option --index: %q: want a number", at)
	}
	switch {
	case x.Bool("remove") && (at == "" || given || x.Bool("insert")):
		return nil, apps.Usagef("--remove goes with --index alone")
	case x.Bool("remove"):
		return m.deleteRule(x.Context, at), nil
	case at != "" && !x.Bool("insert") && given:
		return m.setRule(x.Context, r, at), nil
	case given && r.Action == "":
		return nil, apps.Usagef("a new rule needs --action allow or --action deny")
	case given:
		return m.addRule(x.Context, r, at), nil
	case at != "" || x.Bool("insert"):
		return nil, apps.Usagef("say what the rule is: --users, --targets, --action")
	}
	return nil, nil
}

func statusCommand(m manager) *cli.Command {
	return &cli.Command{
		Name:        "status",
		Category:    apps.AtEndpoint,
		Usage:       "show the listeners, connections and exits of a proxy",
		UsageText:   "ztm proxy status",
		Description: apps.Example("ztm proxy status", "ztm ep office proxy status -o json"),
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			return m.status(x.Context)
		},
	}
}

func whereCommand(m manager) *cli.Command {
	return &cli.Command{
		Name:      "where",
		Category:  apps.AtEndpoint,
		Usage:     "show where a connection through a proxy would go",
		ArgsUsage: "HOST:PORT", // the port may be left out
		UsageText: "ztm proxy where HOST[:PORT]|URL",
		Description: "It opens no connection. What the endpoint knows of the exits decides, and an exit may still refuse. The second\n" +
			"and later lines count if the exits of the line before do not know the name.\n\n" +
			apps.Example("ztm proxy where svc-a.svc:8080", "ztm ep laptop proxy where 10.43.0.7"),
		Action: func(x *cli.Context) error {
			if x.NArg() != 1 {
				return apps.Usagef("want one HOST, HOST:PORT or URL")
			}
			return m.where(x.Context, x.Args().First())
		},
	}
}
