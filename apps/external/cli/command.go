// Package cli is the command line of the apps of others: `ztm app`, `ztm get app` and `ztm describe
// app`. It is a client of two APIs: that of the apps, and that of the cloud, over which bundles
// travel. So neither app knows the other.
package cli

import (
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/external"
	"ztm/apps/external/install"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind { return apps.Kind{Name: external.Name, New: external.New, Commands: commands} }

func commands(c apps.Console) apps.Commands {
	k := &client{c}
	return apps.Commands{
		Top: []*cli.Command{{
			Name:  external.Name,
			Usage: "write, publish, install and run apps of your own and of others",
			Description: "An app is a program that serves HTTP on a socket that it is handed. It is known as PROVIDER/NAME; where one name is\n" +
				"installed once, NAME does. See docs/apps.md.\n\n" + apps.Example(
				"ztm app init hello && ztm app run hello",
				"ztm app publish hello --share bob",
				"ztm app install alice/hello"),
			Subcommands: slices.Concat([]*cli.Command{initCommand(c), k.runCommand(), k.publishCommand(), k.unpublishCommand(), k.downloadCommand(),
				k.installCommand("install"), k.installCommand("upgrade"), k.eraseCommand(), k.logCommand(), k.callCommand(), k.openCommand(), k.usersCommand("grant"), k.usersCommand("revoke")}, k.verbs()),
		}},
		Get:      []*cli.Command{k.getCommand()},
		Describe: []*cli.Command{k.describeCommand()},
		Brought:  brought{k},
	}
}

// one returns the one argument of a command.
func one(x *cli.Context, what string) (string, error) {
	switch x.NArg() {
	case 0:
		return "", apps.Usagef("missing %s", what)
	case 1:
		return x.Args().First(), nil
	}
	return "", apps.Usagef("unexpected %q", x.Args().Get(1))
}

// initCommand is done on this device alone.
func initCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name: "init", Category: apps.Device, Usage: "make the directory of a new app that works",
		ArgsUsage: "DIR", UsageText: "ztm app init DIR [--lang python|go]",
		Description: "The name of the directory is that of the app.\n\n" + apps.Example("ztm app init hello", "ztm app run hello"),
		Flags:       []cli.Flag{&cli.StringFlag{Name: "lang", Value: "python", Usage: "write it in `LANGUAGE`: python or go"}},
		Action: func(x *cli.Context) error {
			dir, err := one(x, "DIR")
			if err != nil {
				return err
			}
			return begin(c, dir, x.String("lang"))
		},
	}
}

func unconfinedFlag() cli.Flag {
	return &cli.BoolFlag{Name: "unconfined", Usage: "run it also where nothing can hold it; this is remembered"}
}

func (k *client) runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Category: apps.InMesh, Usage: "try out the app in a directory here, and show what it writes",
		ArgsUsage: "DIR", UsageText: "ztm app run DIR [--unconfined]",
		Description: "It is not signed and not installed. Until this command ends it takes the place of an installed app of its name.\n\n" + apps.Example(
			"ztm app run hello"),
		Flags: []cli.Flag{unconfinedFlag()},
		Action: func(x *cli.Context) error {
			dir, err := one(x, "DIR")
			if err != nil {
				return err
			}
			return k.try(x.Context, dir, x.Bool("unconfined"))
		},
	}
}

func (k *client) publishCommand() *cli.Command {
	return &cli.Command{
		Name: "publish", Category: apps.AtEndpoint, Usage: "sign the app in a directory here and publish it in the cloud",
		ArgsUsage: "DIR", UsageText: "ztm app publish DIR [--share USER ...]",
		Description: "Each time is a version of its own, with the next sequence number. Without --share it is for your own endpoints.\n\n" + apps.Example(
			"ztm app publish hello", "ztm app publish hello --share bob", "ztm app publish hello --share '*'"),
		Flags: []cli.Flag{&cli.StringSliceFlag{Name: "share", Usage: "let `USER` install it; * for all members"}},
		Action: func(x *cli.Context) error {
			dir, err := one(x, "DIR")
			if err != nil {
				return err
			}
			return k.publish(x.Context, dir, x.StringSlice("share"))
		},
	}
}

func (k *client) unpublishCommand() *cli.Command {
	return &cli.Command{
		Name: "unpublish", Category: apps.AtEndpoint, Usage: "publish an app of yours no longer; where it is installed it stays",
		ArgsUsage: "NAME[@SEQUENCE]", UsageText: "ztm app unpublish NAME[@SEQUENCE]",
		Description: apps.Example("ztm app unpublish hello", "ztm app unpublish hello@3"),
		Action: func(x *cli.Context) error {
			name, err := one(x, "NAME")
			if err != nil {
				return err
			}
			return k.unpublish(x.Context, name)
		},
	}
}

func (k *client) downloadCommand() *cli.Command {
	return &cli.Command{
		Name: "download", Category: apps.AtEndpoint, Usage: "fetch a published app into the local directory of the cloud, to install it later",
		ArgsUsage: "PROVIDER/NAME[@VERSION]", UsageText: "ztm app download PROVIDER/NAME[@VERSION]",
		Description: apps.Example("ztm app download alice/hello", "ztm app download alice/hello@2"),
		Action: func(x *cli.Context) error {
			name, err := one(x, "PROVIDER/NAME")
			if err != nil {
				return err
			}
			return k.download(x.Context, name)
		},
	}
}

// installCommand is the command `install`, and `upgrade`, which wants something to be there.
func (k *client) installCommand(name string) *cli.Command {
	c := &cli.Command{
		Name: name, Category: apps.AtEndpoint, Usage: "install a published app, or one in a directory here",
		ArgsUsage: "PROVIDER/NAME[@VERSION]|DIR", UsageText: "ztm app install PROVIDER/NAME[@VERSION] [--yes]\n       ztm app install ./DIR [--yes]",
		Description: "It shows what the app may do, and asks. A directory begins with . or /; it is signed as an app of yours. VERSION is a\n" +
			"sequence number, or the provider's own name of a version.\n\n" + apps.Example(
			"ztm app install alice/hello", "ztm app install ./hello --yes", "ztm ep office app install alice/hello@1.2"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "agree to what the app may do"},
			&cli.BoolFlag{Name: "allow-downgrade", Usage: "take an older version than what is installed"},
			unconfinedFlag(),
		},
		Action: func(x *cli.Context) error {
			what, err := one(x, "PROVIDER/NAME or DIR")
			if err != nil {
				return err
			}
			if name == "upgrade" {
				if what, err = k.resolve(x.Context, what); err != nil {
					return err
				}
			}
			return k.install(x.Context, what, x.Bool("yes"), install.Consent{AllowDowngrade: x.Bool("allow-downgrade"), Unconfined: x.Bool("unconfined")})
		},
	}
	if name == "upgrade" {
		c.Usage, c.ArgsUsage, c.UsageText = "install the newest version of an app that is here", "[PROVIDER/]NAME", "ztm app upgrade [PROVIDER/]NAME [--yes]"
		c.Description = "It asks again where the new version may do more. The old one is kept: see ztm app rollback.\n\n" + apps.Example("ztm app upgrade hello", "ztm app upgrade alice/hello --yes")
	}
	return c
}

func (k *client) eraseCommand() *cli.Command {
	return &cli.Command{
		Name: "erase", Category: apps.AtEndpoint, Usage: "remove an app",
		ArgsUsage: "[PROVIDER/]NAME", UsageText: "ztm app erase [PROVIDER/]NAME [--with-data]",
		Description: apps.Example("ztm app erase hello", "ztm app erase alice/hello --with-data"),
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "with-data", Usage: "also remove what the app has written"}},
		Action: func(x *cli.Context) error {
			name, err := one(x, "NAME")
			if err != nil {
				return err
			}
			return k.erase(x.Context, name, x.Bool("with-data"))
		},
	}
}

func (k *client) logCommand() *cli.Command {
	return &cli.Command{
		Name: "log", Category: apps.AtEndpoint, Usage: "show the last lines that an app wrote",
		ArgsUsage: "[PROVIDER/]NAME", UsageText: "ztm app log [PROVIDER/]NAME [-f]",
		Description: apps.Example("ztm app log hello", "ztm app log hello -f"),
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, Usage: "go on with what it writes"}},
		Action: func(x *cli.Context) error {
			name, err := one(x, "NAME")
			if err != nil {
				return err
			}
			return k.log(x.Context, name, x.Bool("follow"))
		},
	}
}

func (k *client) callCommand() *cli.Command {
	return &cli.Command{
		Name: "call", Category: apps.AtEndpoint, Usage: "send a request to an app, as its own command line",
		ArgsUsage: "[PROVIDER/]NAME [PATH]", UsageText: "ztm app call [PROVIDER/]NAME [PATH] [-X METHOD] [-d TEXT]",
		Description: "At an endpoint of another user, PROVIDER is needed. The exit status is 1 if the app answers with an error.\n\n" + apps.Example(
			"ztm app call hello", "ztm ep office app call alice/guests /entries -d 'I was here'"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "method", Aliases: []string{"X"}, Usage: "`METHOD`: GET, or POST with -d"},
			&cli.StringFlag{Name: "body", Aliases: []string{"d"}, Usage: "send `TEXT`; - for standard input"},
		},
		Action: func(x *cli.Context) error {
			if n := x.NArg(); n < 1 || n > 2 {
				return apps.Usagef("want NAME and at most one PATH")
			}
			body, method := io.Reader(http.NoBody), http.MethodGet
			switch text := x.String("body"); {
			case text == "-":
				body, method = k.Stdin(), http.MethodPost
			case x.IsSet("body"):
				body, method = strings.NewReader(text), http.MethodPost
			}
			if x.IsSet("method") {
				method = x.String("method")
			}
			return k.call(x.Context, x.Args().First(), method, x.Args().Get(1), body)
		},
	}
}

func (k *client) openCommand() *cli.Command {
	return &cli.Command{
		Name: "open", Category: apps.AtEndpoint, Usage: "show the pages of an app to a browser of this machine",
		ArgsUsage: "[PROVIDER/]NAME", UsageText: "ztm app open [PROVIDER/]NAME [--listen ADDRESS:PORT]",
		Description: "It prints an address that works once, in one browser, and serves until it is interrupted.\n\n" + apps.Example(
			"ztm app open hello", "ztm ep office app open alice/chat"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "listen", Usage: "listen on `ADDRESS:PORT` of this machine", DefaultText: "a free one"}},
		Action: func(x *cli.Context) error {
			name, err := one(x, "NAME")
			if err != nil {
				return err
			}
			return k.show(x.Context, name, x.String("listen"))
		},
	}
}

// usersCommand is `grant` or `revoke`.
func (k *client) usersCommand(name string) *cli.Command {
	usage := map[string]string{"grant": "let users use an app", "revoke": "remove the access of users to an app, and end what they have open"}
	return &cli.Command{
		Name: name, Category: apps.AtEndpoint, Usage: usage[name],
		ArgsUsage: "[PROVIDER/]NAME USER ...", UsageText: "ztm app " + name + " [PROVIDER/]NAME USER ...",
		Description: "* is all members, group:NAME those who are in a group at the moment. Your own endpoints need no grant.\n\n" + apps.Example("ztm app "+name+" hello bob carol"),
		Action: func(x *cli.Context) error {
			users := x.Args().Tail()
			if len(users) == 0 {
				return apps.Usagef("missing NAME or USER")
			}
			c := install.Change{Revoke: users}
			if name == "grant" {
				if err := k.CheckUsers(x.Context, users); err != nil {
					return err
				}
				c = install.Change{Grant: users}
			}
			return k.change(x.Context, x.Args().First(), c)
		},
	}
}

// verbs are the commands that have no more than a name.
func (k *client) verbs() (list []*cli.Command) {
	on, off := false, true
	for _, v := range []struct {
		name, usage string
		change      *install.Change
	}{
		{"start", "start an app, also one that failed too often", nil},
		{"stop", "stop an app until somebody asks for it", nil},
		{"restart", "stop an app and start it again", nil},
		{"rollback", "bring the version before the current one back", nil},
		{"enable", "let an app be started again", &install.Change{Disabled: &on}},
		{"disable", "stop an app and let nobody start it", &install.Change{Disabled: &off}},
	} {
		list = append(list, &cli.Command{
			Name: v.name, Category: apps.AtEndpoint, Usage: v.usage,
			ArgsUsage: "[PROVIDER/]NAME", UsageText: "ztm app " + v.name + " [PROVIDER/]NAME",
			Description: apps.Example("ztm app "+v.name+" hello", "ztm ep office app "+v.name+" alice/hello"),
			Action: func(x *cli.Context) error {
				name, err := one(x, "NAME")
				if err != nil {
					return err
				}
				if v.change != nil {
					return k.change(x.Context, name, *v.change)
				}
				return k.command(x.Context, name, v.name)
			},
		})
	}
	return list
}

func (k *client) getCommand() *cli.Command {
	return &cli.Command{
		Name: "app", Category: apps.AtEndpoint, Usage: "list the apps of an endpoint: those of ztm, and those that are installed",
		UsageText: "ztm get app", Description: apps.Example("ztm get app", "ztm ep office get app -o json"),
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			return k.list(x.Context)
		},
	}
}

func (k *client) describeCommand() *cli.Command {
	return &cli.Command{
		Name: "app", Category: apps.AtEndpoint, Usage: "show an installed app: what it may do, who may use it, how it does",
		ArgsUsage: "[PROVIDER/]NAME", UsageText: "ztm describe app [PROVIDER/]NAME",
		Description: apps.Example("ztm describe app hello", "ztm describe app alice/hello"),
		Action: func(x *cli.Context) error {
			name, err := one(x, "NAME")
			if err != nil {
				return err
			}
			return k.describe(x.Context, name)
		},
	}
}

// isDir reports whether an argument names a directory, and no published app.
func isDir(what string) bool { return strings.HasPrefix(what, ".") || strings.HasPrefix(what, "/") }
