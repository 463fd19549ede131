// Package cli is the command line of the cloud: `ztm cloud`, and `ztm get file` and `ztm describe
// file`. It is a client of the app's API. Files are read and written by the account that types the
// command: the agent gets and gives their content by a flow.
package cli

import (
	"slices"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/builtin"
	"ztm/apps/cloud"
	"ztm/apps/cloud/config"
	"ztm/apps/cloud/mirror"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind { return apps.Kind{Name: cloud.Name, New: cloud.New, Commands: commands} }

func commands(c apps.Console) apps.Commands {
	k := &client{c}
	all := []*cli.Command{k.list("ls", "ztm cloud ls"), k.uploadCommand(), k.publishCommand(), k.unpublishCommand(),
		k.downloadCommand(), k.shareCommand(), k.eraseCommand()}
	if builtin.Mirrors {
		all = append(all, k.mirrorCommand())
	}
	all = append(all, k.verifyCommand(), k.statusCommand(), k.versionsCommand(), k.restoreCommand(), k.configCommand())
	return apps.Commands{
		Top: []*cli.Command{{
			Name:  cloud.Name,
			Usage: "publish files, and find and fetch those of others",
			Description: "Each user has a tree of files, /users/USER/. A path without a slash in front is in your own. The files of it that\n" +
				"are on this endpoint are in the local directory: see ztm cloud config.\n\n" + apps.Example(
				"ztm cloud upload report.pdf --share alice",
				"ztm cloud download /users/bob/report.pdf",
				"ztm cloud status"),
			Subcommands: all,
		}},
		Get:      []*cli.Command{k.list("file", "ztm get file")},
		Describe: []*cli.Command{k.describeCommand()},
	}
}

// path returns the one argument of a command, or what stands for a missing one.
func path(x *cli.Context, missing string) (string, error) {
	switch {
	case x.Args().Len() > 1:
		return "", apps.Usagef("unexpected %q", x.Args().Get(1))
	case !x.Args().Present() && missing == "":
		return "", apps.Usagef("missing PATH")
	case !x.Args().Present():
		return missing, nil
	}
	return x.Args().First(), nil
}

func (k *client) list(name, line string) *cli.Command {
	return &cli.Command{
		Name: name, Category: apps.AtEndpoint, Usage: "list the files that you may read, and those that are here",
		ArgsUsage: "[PATH]", UsageText: line + " [PATH] [--hash]",
		Description: apps.Example(line, line+" /users/bob/photos --hash"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "hash", Usage: "also show the hash that the content of each file is known by"},
			&cli.BoolFlag{Name: "offline", Usage: "do not ask other endpoints first"},
		},
		Action: func(x *cli.Context) error {
			p, err := path(x, "/")
			if err != nil {
				return err
			}
			return k.ls(x.Context, p, x.Bool("hash"), x.Bool("offline"))
		},
	}
}

func (k *client) describeCommand() *cli.Command {
	return &cli.Command{
		Name: "file", Category: apps.AtEndpoint, Usage: "show a published file in detail",
		ArgsUsage: "PATH", UsageText: "ztm describe file PATH",
		Description: apps.Example("ztm describe file /users/bob/report.pdf"),
		Action: func(x *cli.Context) error {
			p, err := path(x, "")
			if err != nil {
				return err
			}
			return k.describe(x.Context, p)
		},
	}
}

var shareFlag = &cli.StringSliceFlag{Name: "share", Usage: "let `USER` read it, or group:NAME; * for all members"}

const sharedNow = "--share is about the files that are published now. For those that come to a\n" +
	"directory later there is ztm cloud share."

func (k *client) uploadCommand() *cli.Command {
	return &cli.Command{
		Name: "upload", Category: apps.AtEndpoint, Usage: "copy a file or directory into the local directory and publish it",
		ArgsUsage: "SRC [PATH]", UsageText: "ztm cloud upload SRC [PATH] [--share USER ...]",
		Description: "PATH is in your own tree; without it, the name of SRC is. A directory is taken with all that is in it; links and\n" +
			"devices are left out, and named. " + sharedNow + "\n\n" + apps.Example(
			"ztm cloud upload report.pdf --share alice",
			"ztm cloud upload ./photos albums/2026",
			"ztm ep nas cloud upload backup.tar"),
		Flags: []cli.Flag{shareFlag},
		Action: func(x *cli.Context) error {
			if n := x.Args().Len(); n < 1 || n > 2 {
				return apps.Usagef("want SRC and at most one PATH")
			}
			return k.upload(x.Context, x.Args().Get(0), x.Args().Get(1), x.StringSlice("share"))
		},
	}
}

func (k *client) publishCommand() *cli.Command {
	return &cli.Command{
		Name: "publish", Category: apps.AtEndpoint, Usage: "publish what is in the local directory, as it is now",
		ArgsUsage: "PATH", UsageText: "ztm cloud publish PATH [--share USER ...]",
		Description: sharedNow + "\n\n" + apps.Example("ztm cloud publish report.pdf", "ztm cloud publish albums/2026 --share alice"),
		Flags:       []cli.Flag{shareFlag},
		Action: func(x *cli.Context) error {
			p, err := path(x, "")
			if err != nil {
				return err
			}
			return k.publish(x.Context, p, x.StringSlice("share"))
		},
	}
}

var dryRunFlag = &cli.BoolFlag{Name: "dry-run", Usage: "print what would be done, and do nothing"}

func (k *client) unpublishCommand() *cli.Command {
	return &cli.Command{
		Name: "unpublish", Category: apps.AtEndpoint, Usage: "publish a file or directory no longer; copies stay where they are",
		ArgsUsage: "PATH", UsageText: "ztm cloud unpublish PATH [--dry-run]",
		Description: apps.Example("ztm cloud unpublish albums --dry-run", "ztm cloud unpublish report.pdf"),
		Flags:       []cli.Flag{dryRunFlag},
		Action: func(x *cli.Context) error {
			p, err := path(x, "")
			if err != nil {
				return err
			}
			return k.change(x.Context, "unpublish", cloud.Named{Path: p, DryRun: x.Bool("dry-run")})
		},
	}
}

func (k *client) eraseCommand() *cli.Command {
	return &cli.Command{
		Name: "erase", Category: apps.AtEndpoint, Usage: "remove this endpoint's copy of a file or directory",
		ArgsUsage: "PATH", UsageText: "ztm cloud erase PATH [--force] [--dry-run]",
		Description: "It stays published, and can be fetched from other endpoints that have it.\n\n" + apps.Example(
			"ztm cloud erase /users/bob/video.mp4", "ztm ep nas cloud erase albums --dry-run"),
		Flags: []cli.Flag{dryRunFlag, &cli.BoolFlag{Name: "force", Usage: "remove it even if no other endpoint is known to have it"}},
		Action: func(x *cli.Context) error {
			p, err := path(x, "")
			if err != nil {
				return err
			}
			return k.change(x.Context, "erase", cloud.Named{Path: p, Force: x.Bool("force"), DryRun: x.Bool("dry-run")})
		},
	}
}

func (k *client) downloadCommand() *cli.Command {
	return &cli.Command{
		Name: "download", Category: apps.AtEndpoint, Usage: "fetch a file or directory from all endpoints that have it",
		ArgsUsage: "[PATH]", UsageText: "ztm cloud download PATH [-o FILE] [-d] | --list | --cancel ID",
		Description: "What is fetched is in the local directory, under the same path. The exit status is 0 if all of it is there, complete\n" +
			"and checked. Interrupted, the download ends; what has come stays, and the next one goes on from there.\n" +
			"With -d it goes on in the background.\n\n" + apps.Example(
			"ztm cloud download /users/bob/report.pdf",
			"ztm cloud download /users/bob/report.pdf -o ~/report.pdf",
			"ztm cloud download /users/bob/photos -d",
			"ztm cloud download --list"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "to", Aliases: []string{"o"}, Usage: "also write the file to `FILE`; - for standard output"},
			&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}, Usage: "go on in the background"},
			&cli.BoolFlag{Name: "list", Aliases: []string{"l"}, Usage: "list the downloads"},
			&cli.StringFlag{Name: "cancel", Usage: "end the download `ID`"},
		},
		Action: func(x *cli.Context) error {
			switch {
			case x.Bool("list"):
				return k.downloads(x.Context)
			case x.IsSet("cancel"):
				return k.cancel(x.Context, x.String("cancel"))
			}
			p, err := path(x, "")
			if err != nil {
				return err
			}
			return k.download(x.Context, p, x.String("to"), x.Bool("detach"))
		},
	}
}

func (k *client) shareCommand() *cli.Command {
	return &cli.Command{
		Name: "share", Category: apps.AtEndpoint, Usage: "let users read a file or directory of yours, or no longer",
		ArgsUsage: "PATH", UsageText: "ztm cloud share PATH [--add-user USER ...] [--remove-user USER ...] [--all on|off]",
		Description: "For a directory it also holds for what is published there later. Access that is taken away ends at once, running\n" +
			"transfers included. Copies that were made stay with those who have them.\n\n" + apps.Example(
			"ztm cloud share report.pdf --add-user alice",
			"ztm cloud share handbook --add-user group:ops",
			"ztm cloud share albums --all on",
			"ztm cloud share report.pdf --remove-user alice"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "add-user", Aliases: []string{"set-readonly"}, Usage: "let `USER` read it, or group:NAME"},
			&cli.StringSliceFlag{Name: "remove-user", Aliases: []string{"set-block", "set-default"}, Usage: "remove the access of `USER`"},
			&cli.StringFlag{Name: "all", Usage: "let all members read it, or no longer: `on|off`"},
		},
		Action: func(x *cli.Context) error {
			p, err := path(x, "")
			if err != nil {
				return err
			}
			change := cloud.ShareChange{Path: p, Add: x.StringSlice("add-user"), Remove: x.StringSlice("remove-user")}
			if change.All, err = onOff(x, "all"); err != nil {
				return err
			}
			if x.NumFlags() == 0 {
				return apps.Usagef("missing --add-user, --remove-user or --all")
			}
			return k.share(x.Context, change)
		},
	}
}

// onOff reads an option that is on or off; nil where it was not given.
func onOff(x *cli.Context, name string) (*bool, error) {
	if !x.IsSet(name) {
		return nil, nil
	}
	on := x.String(name) == "on"
	if !on && x.String(name) != "off" {
		return nil, apps.Usagef("--%s is on or off", name)
	}
	return &on, nil
}

// amount reads an option that is a number of bytes; nil where it was not given.
func amount(x *cli.Context, name string, parse func(string) (int64, error)) (*int64, error) {
	if !x.IsSet(name) {
		return nil, nil
	}
	n, err := parse(x.String(name))
	if err != nil {
		return nil, apps.Usagef("--%s: %v", name, err)
	}
	return &n, nil
}

// patterns reads an option that is patterns; nil where it was not given. An empty one is none.
func patterns(x *cli.Context, name string) *mirror.Patterns {
	if !x.IsSet(name) {
		return nil
	}
	ps := mirror.Patterns(slices.DeleteFunc(x.StringSlice(name), func(s string) bool { return s == "" }))
	return &ps
}

func (k *client) verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Category: apps.AtEndpoint, Usage: "read what is here and check that it is still what was published",
		ArgsUsage: "[PATH]", UsageText: "ztm cloud verify [PATH]",
		Description: "What the disk has damaged is fetched again from another endpoint. The exit status is 1 if a file is not as it was\n" +
			"published.\n\n" + apps.Example("ztm cloud verify", "ztm cloud verify /users/bob/photos"),
		Action: func(x *cli.Context) error {
			p, err := path(x, "/")
			if err != nil {
				return err
			}
			return k.verify(x.Context, p)
		},
	}
}

func (k *client) mirrorCommand() *cli.Command {
	return &cli.Command{
		Name: "mirror", Category: apps.AtEndpoint, Usage: "keep a directory in step with what is published",
		ArgsUsage: "[PATH]", UsageText: "ztm cloud mirror\n       ztm cloud mirror PATH [--download on|off] [--upload on|off] [--include PATTERN ...] [--exclude PATTERN ...]\n" +
			"                              [--limit RATE] [--selective on|off] [--dry-run]\n       ztm cloud mirror PATH --confirm",
		Description: "Without PATH it lists the mirrors here. What another endpoint replaces or deletes goes to .ztm-trash in the local\n" +
			"directory for 30 days. Files that were edited apart are both kept. More deletions than a thousand, or than half of\n" +
			"all files, wait for --confirm. In a pattern * and ? are within a name, ** is for directories; ! brings back what an\n" +
			"earlier --exclude leaves out. A selective mirror fetches new versions of what is here, and nothing else.\n\n" + apps.Example(
			"ztm cloud mirror docs --upload on --download on",
			"ztm cloud mirror /users/bob/photos --download on --exclude '*.raw' --limit 2M",
			"ztm cloud mirror docs --confirm"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "download", Usage: "fetch what is published: `on|off`"},
			&cli.StringFlag{Name: "upload", Usage: "publish what is here: `on|off`"},
			&cli.StringSliceFlag{Name: "include", Usage: "leave out all but what matches a `[PATTERN]`"},
			&cli.StringSliceFlag{Name: "exclude", Usage: "leave out what matches `[PATTERN]`"},
			&cli.StringFlag{Name: "limit", Usage: "fetch at most `RATE` bytes a second, such as 500K or 2M, or off"},
			&cli.StringFlag{Name: "selective", Usage: "fetch new versions of what is here, and nothing else: `on|off`"},
			&cli.BoolFlag{Name: "confirm", Usage: "make the deletions that wait"},
			&cli.BoolFlag{Name: "dry-run", Usage: "only tell what would be done"},
		},
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				if x.NumFlags() > 0 {
					return apps.Usagef("missing PATH")
				}
				return k.mirrors(x.Context)
			}
			p, err := path(x, "")
			if err != nil {
				return err
			}
			c := mirror.Change{Path: p, Confirm: x.Bool("confirm"), DryRun: x.Bool("dry-run")}
			if c.Download, err = onOff(x, "download"); err != nil {
				return err
			}
			if c.Upload, err = onOff(x, "upload"); err != nil {
				return err
			}
			if c.Selective, err = onOff(x, "selective"); err != nil {
				return err
			}
			if c.Limit, err = amount(x, "limit", apps.ParseRate); err != nil {
				return err
			}
			c.Include, c.Exclude = patterns(x, "include"), patterns(x, "exclude")
			return k.mirror(x.Context, c)
		},
	}
}

func (k *client) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Category: apps.AtEndpoint, Usage: "show what is running, and each file that is not done, with what helps",
		UsageText: "ztm cloud status", Description: apps.Example("ztm cloud status", "ztm ep nas cloud status -o json"),
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			return k.status(x.Context)
		},
	}
}

func (k *client) configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Category: apps.AtEndpoint, Usage: "show or set where files are kept, how many, and how fast they come and go",
		UsageText: "ztm cloud config [--local-dir DIR] [--exec on|off] [--limit-down RATE] [--limit-up RATE] [--quota SIZE]",
		Description: "Files do not move when the directory is changed. Without --exec on, no file that was fetched can be executed.\n" +
			"A limit holds at once, for all downloads, or all that others fetch from here, together.\n" +
			"A quota bounds how much is fetched of what each other user has published now; what is here already stays.\n\n" + apps.Example(
			"ztm cloud config", "ztm cloud config --local-dir /mnt/disk/cloud", "ztm cloud config --limit-down 2M --limit-up 500K", "ztm cloud config --quota 10G"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "local-dir", Usage: "keep files in `DIR`; empty for the default"},
			&cli.StringFlag{Name: "exec", Usage: "let files be executable that were published so: `on|off`"},
			&cli.StringFlag{Name: "limit-down", Usage: "fetch at most `RATE` bytes a second, such as 500K or 2M, or off"},
			&cli.StringFlag{Name: "limit-up", Usage: "give others at most `RATE` bytes a second, or off"},
			&cli.StringFlag{Name: "quota", Usage: "fetch at most `SIZE` bytes of what each other user has published, such as 500M or 10G, or off"},
		},
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			var change config.Change
			if x.IsSet("local-dir") {
				dir := x.String("local-dir")
				change.LocalDir = &dir
			}
			var err error
			if change.Exec, err = onOff(x, "exec"); err != nil {
				return err
			}
			if change.LimitDown, err = amount(x, "limit-down", apps.ParseRate); err != nil {
				return err
			}
			if change.LimitUp, err = amount(x, "limit-up", apps.ParseRate); err != nil {
				return err
			}
			if change.Quota, err = amount(x, "quota", apps.ParseSize); err != nil {
				return err
			}
			return k.config(x.Context, change, x.NumFlags() > 0)
		},
	}
}

func (k *client) versionsCommand() *cli.Command {
	return &cli.Command{
		Name: "versions", Category: apps.AtEndpoint, Usage: "list earlier contents of files that this endpoint has kept",
		ArgsUsage: "[PATH]", UsageText: "ztm cloud versions [PATH]",
		Description: "What others' changes replace or delete here is kept for 30 days, in a tenth of the disk at most.\n\n" + apps.Example(
			"ztm cloud versions /users/bob/report.pdf"),
		Action: func(x *cli.Context) error {
			p, err := path(x, "/")
			if err != nil {
				return err
			}
			return k.versions(x.Context, p)
		},
	}
}

func (k *client) restoreCommand() *cli.Command {
	return &cli.Command{
		Name: "restore", Category: apps.AtEndpoint, Usage: "put an earlier content of a file back",
		ArgsUsage: "PATH[@VERSION]", UsageText: "ztm cloud restore PATH[@VERSION]",
		Description: "Without a version it is the newest that is kept. What stands there is kept in turn. In your own tree it is published.\n\n" + apps.Example(
			"ztm cloud restore report.pdf", "ztm cloud restore report.pdf@20261129-093000"),
		Action: func(x *cli.Context) error {
			p, err := path(x, "")
			if err != nil {
				return err
			}
			return k.restore(x.Context, p)
		},
	}
}
