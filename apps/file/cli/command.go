// Package cli is the command line of the file app: a client of the app at each end that is not this
// machine.
package cli

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/apps"
	"ztm/apps/file"
	"ztm/apps/file/transfer"
	"ztm/tunnel/unixtime"
)

// Kind is this app as a program that has it sees it.
func Kind() apps.Kind {
	return apps.Kind{Name: file.Name, New: file.New, Commands: func(c apps.Console) apps.Commands {
		return apps.Commands{Top: []*cli.Command{commands(c)}}
	}}
}

// commands returns the command `ztm file`.
func commands(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:  file.Name,
		Usage: "list, copy and send files between endpoints",
		Description: apps.Example(
			"ztm file ls ep-office:/etc",
			"ztm file cp report.pdf ep-office:/srv/docs",
			"ztm file cp -r ep-office:/srv/www .",
			"ztm file send photo.jpg ep-phone"),
		Subcommands: []*cli.Command{lsCommand(c), cpCommand(c), getCommand(c), sendCommand(c), allowCommand(c), inboxCommand(c)},
	}
}

const places = "A path with the name of an endpoint and a colon before it is there, and any other one is here, or at the endpoint\n" +
	"of the prefix `ztm ep EP`. There, a path that does not begin with / is below the home directory. Write ./a:b for\n" +
	"a file here whose name has a colon.\n\n"

func lsCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "ls",
		Category:    apps.AtEndpoint,
		Usage:       "list a directory",
		ArgsUsage:   "[PATH]",
		UsageText:   "ztm file ls [-l] [EP:]PATH",
		Description: places + apps.Example("ztm file ls ep-office:/etc", "ztm ep ep-office file ls -l /etc"),
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "long", Aliases: []string{"l"}, Usage: "show modes, too"}},
		Action: func(x *cli.Context) error {
			if x.NArg() > 1 {
				return apps.Usagef("unexpected %q", x.Args().Get(1))
			}
			return list(x.Context, c, x.Args().First(), x.Bool("long"))
		},
	}
}

func copyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "copy directories with all that is in them"},
		&cli.BoolFlag{Name: "update", Aliases: []string{"u"}, Usage: "leave out files that are there with the same size and time"},
		&cli.BoolFlag{Name: "no-replace", Aliases: []string{"n"}, Usage: "replace no file"},
		limitFlag(),
		&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show no progress"},
	}
}

func limitFlag() cli.Flag {
	return &cli.StringFlag{Name: "limit", Usage: "copy at most `RATE` bytes a second, such as 500K or 2MB/s"}
}

func newCopier(x *cli.Context, c apps.Console) (*copier, error) {
	k := &copier{Console: c, quiet: x.Bool("quiet"),
		o: transfer.Options{Recursive: x.Bool("recursive"), Update: x.Bool("update"), Keep: x.Bool("no-replace")}}
	if x.IsSet("limit") {
		rate, err := apps.ParseRate(x.String("limit"))
		if err != nil {
			return nil, apps.Usagef("--limit: %v", err)
		}
		k.pace.Set(rate)
	}
	return k, nil
}

const verified = "Modes and times are kept; links, devices and owners are not. What comes is sealed and every block has a checksum,\n" +
	"and a file gets its name when all of it is there. What an interrupted copy has left is checked by SHA-256 and\n" +
	"continued by the same command.\n" +
	"The exit status is 0 if everything is complete.\n\n"

func cpCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "cp",
		Category:    apps.FromEndpoint,
		Usage:       "copy files and directories",
		ArgsUsage:   "FROM ... TO",
		UsageText:   "ztm file cp [-r] [OPTIONS] [EP:]PATH ... [EP:]PATH",
		Description: places + verified + apps.Example("ztm file cp -r www ep-office:/srv", "ztm file cp ep-office:/var/log/syslog .", "ztm file cp ep-1:a ep-2:b"),
		Flags:       copyFlags(),
		Action: func(x *cli.Context) error {
			names := x.Args().Slice()
			if len(names) < 2 {
				return apps.Usagef("missing FROM or TO")
			}
			k, err := newCopier(x, c)
			if err != nil {
				return err
			}
			return k.all(x.Context, names[:len(names)-1], names[len(names)-1])
		},
	}
}

func getCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:        "get",
		Category:    apps.FromEndpoint,
		Usage:       "fetch files and directories into a directory here",
		ArgsUsage:   "FROM ...",
		UsageText:   "ztm file get [-r] [OPTIONS] EP:PATH ... [--to DIR]",
		Description: verified + apps.Example("ztm file get ep-office:/var/log/syslog", "ztm file get -r ep-office:/srv/www --to /tmp"),
		Flags:       append(copyFlags(), &cli.StringFlag{Name: "to", Usage: "put them into `DIR`", Value: "."}),
		Action: func(x *cli.Context) error {
			if !x.Args().Present() {
				return apps.Usagef("missing EP:PATH")
			}
			k, err := newCopier(x, c)
			if err != nil {
				return err
			}
			return k.all(x.Context, x.Args().Slice(), strings.TrimSuffix(x.String("to"), "/")+"/")
		},
	}
}

func sendCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "send",
		Category:  apps.InMesh,
		Usage:     "send files to the inbox of an endpoint",
		ArgsUsage: "FILE ... EP",
		UsageText: "ztm file send [-r] [OPTIONS] FILE ... EP",
		Description: "Endpoints of your own take what you send. On an endpoint of another user you must be allowed to offer something\n" +
			"(`ztm file inbox --add-user`), and its owner accepts each offer after seeing all names. Nothing is replaced there.\n\n" +
			apps.Example("ztm file send photo.jpg ep-phone"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "recursive", Aliases: []string{"r"}, Usage: "send directories with all that is in them"},
			limitFlag(),
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "show no progress"},
		},
		Action: func(x *cli.Context) error {
			names := x.Args().Slice()
			if len(names) < 2 {
				return apps.Usagef("missing FILE or EP")
			}
			k, err := newCopier(x, c)
			if err != nil {
				return err
			}
			return k.send(x.Context, names[:len(names)-1], names[len(names)-1])
		},
	}
}

func allowCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "allow",
		Category:  apps.AtEndpoint,
		Usage:     "let other users read or write below a path",
		ArgsUsage: "[PATH]",
		UsageText: "ztm file allow\n       ztm file allow PATH --users USER ... [--write]\n       ztm file allow PATH --remove",
		Description: "Without PATH it lists what is allowed. Other users reach nothing else, and no link leads them out of it. Your own\n" +
			"user reaches whatever the account of the agent does.\n\n" + apps.Example(
			"ztm file allow /srv/pub --users zt-user1 zt-user2", "ztm file allow /srv/drop --users zt-user1 --write", "ztm file allow /srv/pub --remove"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "users", Usage: "let `USER` at it; * is everybody in the mesh"},
			&cli.BoolFlag{Name: "write", Usage: "let them write, too"},
			&cli.BoolFlag{Name: "remove", Usage: "allow it no longer, and end the copies that run"},
		},
		Action: func(x *cli.Context) error { return allow(x, c) },
	}
}

// allow shows or changes the grants of an endpoint.
func allow(x *cli.Context, c apps.Console) error {
	names := x.StringSlice("users")
	if x.NArg() > 1 {
		return apps.Usagef("unexpected %q", x.Args().Get(1))
	}
	path := apps.Bytes(x.Args().First())
	var change file.Change
	switch {
	case path == "" && x.NumFlags() == 0:
		return show(x, c, nil)
	case path == "":
		return apps.Usagef("missing PATH")
	case x.Bool("remove") && (len(names) > 0 || x.Bool("write")):
		return apps.Usagef("--remove stands alone")
	case x.Bool("remove"):
		change.Remove = &path
	case len(names) == 0:
		return apps.Usagef("missing --users")
	default:
		change.Allow = &file.Grant{Path: path, Users: names, Write: x.Bool("write")}
	}
	if err := c.CheckUsers(x.Context, names); err != nil {
		return err
	}
	return show(x, c, &change)
}

// show makes a change, if there is one, and prints the grants.
func show(x *cli.Context, c apps.Console, change *file.Change) error {
	got, err := configure(x, c, "/allow", change)
	if err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"PATH", "USERS", "ACCESS"}}
	for _, g := range got.Allow {
		t.Add(g.Path.String(), strings.Join(g.Users, ", "), map[bool]string{true: "read, write", false: "read"}[g.Write])
	}
	if got.Allow == nil {
		got.Allow = []file.Grant{}
	}
	return c.Print(got.Allow, t)
}

func configure(x *cli.Context, c apps.Console, path string, change *file.Change) (got file.Config, err error) {
	if change == nil {
		err = c.Call(x.Context, http.MethodGet, file.Name+"/config", nil, &got)
	} else {
		err = c.Call(x.Context, http.MethodPatch, file.Name+path, change, &got)
	}
	return got, err
}

func inboxCommand(c apps.Console) *cli.Command {
	return &cli.Command{
		Name:      "inbox",
		Category:  apps.AtEndpoint,
		Usage:     "list what others offer, accept or refuse it, or set who may offer something",
		ArgsUsage: "[ID]",
		UsageText: "ztm file inbox\n       ztm file inbox ID --accept|--refuse\n       ztm file inbox [--add-user USER ...] [--remove-user USER ...] [--dir DIR] [--quota SIZE]",
		Description: "Nothing of an offer is here before it is accepted. What is accepted goes to a directory of the sender's name below\n" +
			"the inbox, which is ~/ztm-inbox unless --dir says otherwise. Nothing there is replaced. Of each other user there are\n" +
			"10 GB at most, unless --quota says otherwise; what you remove from there makes room.\n\n" + apps.Example(
			"ztm file inbox --add-user zt-user1", "ztm file inbox", "ztm file inbox k3v9xq2a --accept", "ztm file inbox --quota 500M"),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "accept", Usage: "take what is offered"},
			&cli.BoolFlag{Name: "refuse", Usage: "do not take it"},
			&cli.StringSliceFlag{Name: "add-user", Usage: "let `USER` offer something"},
			&cli.StringSliceFlag{Name: "remove-user", Aliases: []string{"del-user"}, Usage: "let `USER` offer nothing any longer"},
			&cli.StringFlag{Name: "dir", Usage: "put what comes below `[DIR]`"},
			&cli.StringFlag{Name: "quota", Usage: "keep at most `SIZE` bytes of each other user, such as 500M or 10G, or off"},
		},
		Action: func(x *cli.Context) error { return inbox(x, c) },
	}
}

func inbox(x *cli.Context, c apps.Console) error {
	decides := x.Bool("accept") || x.Bool("refuse")
	changes := x.IsSet("add-user") || x.IsSet("remove-user") || x.IsSet("dir") || x.IsSet("quota")
	switch {
	case x.NArg() > 1:
		return apps.Usagef("unexpected %q", x.Args().Get(1))
	case x.Bool("accept") && x.Bool("refuse") || decides && changes:
		return apps.Usagef("these options exclude each other")
	case decides != x.Args().Present():
		return apps.Usagef("an ID goes with --accept or --refuse")
	case decides:
		return c.Call(x.Context, http.MethodPost, file.Name+"/offers/"+x.Args().First(), file.Decision{Accept: x.Bool("accept")}, nil)
	case changes:
		return setInbox(x, c)
	}
	var offers []file.Offer
	if err := c.Call(x.Context, http.MethodGet, file.Name+"/offers", nil, &offers); err != nil {
		return err
	}
	t := &apps.Table{Header: []string{"ID", "USER", "SINCE", "SIZE", "FILE"}}
	for _, o := range offers {
		for i, item := range o.Items {
			id, user, since := o.ID, o.User, unixtime.Text(o.Since)
			if i > 0 {
				id, user, since = "", "", ""
			}
			t.Add(id, user, since, strconv.FormatInt(item.Size, 10), item.Path.String())
		}
	}
	return c.Print(offers, t)
}

func setInbox(x *cli.Context, c apps.Console) error {
	change := file.Change{AddUsers: x.StringSlice("add-user"), RemoveUsers: x.StringSlice("remove-user")}
	if x.IsSet("dir") {
		dir := apps.Bytes(x.String("dir"))
		change.InboxDir = &dir
	}
	if x.IsSet("quota") {
		quota, err := apps.ParseSize(x.String("quota"))
		if err != nil {
			return apps.Usagef("--quota: %v", err)
		}
		if quota == 0 {
			quota = -1
		}
		change.InboxQuota = &quota
	}
	if err := c.CheckUsers(x.Context, change.AddUsers); err != nil {
		return err
	}
	got, err := configure(x, c, "/config", &change)
	if err != nil {
		return err
	}
	t := &apps.Table{Rows: [][]string{
		{"Directory", cmp.Or(got.Inbox.Dir.String(), "~/ztm-inbox")},
		{"Users", cmp.Or(strings.Join(got.Inbox.Users, ", "), "(owner only)")},
		{"Quota of each", quotaText(got.Inbox.Quota)}}}
	return c.Print(got.Inbox, t)
}

func quotaText(bytes int64) string {
	switch {
	case bytes == 0:
		return "10 GB"
	case bytes < 0:
		return "off"
	}
	return apps.Amount(bytes)
}
