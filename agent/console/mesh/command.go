package mesh

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/apps"
)

// Commands returns the commands that are about the mesh itself. What the apps have to list, to describe and to count stands
// beside what the mesh has: `ztm get tunnel` and `ztm get ep`.
func Commands(console *console.Console, more apps.Commands) []*cli.Command {
	c := commands{console}
	return append(c.members(), c.views(more)...)
}

// members are the commands that change who belongs to the mesh.
func (c commands) members() []*cli.Command {
	return []*cli.Command{
		{
			Name: "join", Category: apps.Device, ArgsUsage: "MESH", Usage: "join a mesh with a permit",
			Description: "MESH is the name that the mesh gets on this device.\n\n" +
				"Example:\n  ztm join home --as laptop --permit bob.json",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "as", Required: true, Usage: "`NAME` of this device in the mesh"},
				&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Required: true, Usage: "`FILE` with the permit, or - for standard input"},
			},
			Action: func(x *cli.Context) error {
				return c.join(x.Context, x.Args().First(), x.String("as"), x.String("permit"))
			},
		},
		{
			Name: "leave", Category: apps.Device, ArgsUsage: "MESH", Usage: "leave a mesh",
			Description: "The device keeps its key: with a new permit it can join again and is the same endpoint.\n\n" +
				"Example:\n  ztm leave home",
			Action: func(x *cli.Context) error { return c.leave(x.Context, x.Args().First()) },
		},
		{
			Name: "identity", Category: apps.AtEndpoint, Usage: "print the public key of this device",
			Description: "Who invites a user needs it: see ztm invite --help.\n\n" +
				"Example:\n  ztm identity > bob.pub",
			Action: func(x *cli.Context) error { return c.identity(x.Context) },
		},
		{
			Name: "invite", Category: apps.InMesh, ArgsUsage: "USER", Usage: "make a permit with which a user can join the mesh",
			Description: "With --identity the permit is of use to one device alone and is no secret. Without it the permit\n" +
				"carries a token: who has it first can join, once, until it expires.\n\n" +
				"Example:\n  ztm invite bob --identity bob.pub --permit bob.json\n  ztm invite bob --permit bob.json --expires 1h",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "`FILE` with the public key of the device, or - for standard input"},
				&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Usage: "`FILE` to write; standard output if not given"},
				&cli.DurationFlag{Name: "expires", Value: 24 * time.Hour, DefaultText: "24h", Usage: "`TIME` after which a token is of no use"},
			},
			Action: func(x *cli.Context) error {
				return c.invite(x.Context, invitation{
					user: x.Args().First(), identity: x.String("identity"), permit: x.String("permit"), expires: x.Duration("expires"),
				})
			},
		},
		{
			Name: "evict", Category: apps.InMesh, ArgsUsage: "USER", Usage: "remove a user and all his devices from the mesh",
			Description: "Running sessions are cut at once. The user can be invited again.\n\n" +
				"Example:\n  ztm evict bob",
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "evict a user of whom no endpoint is known"}},
			Action: func(x *cli.Context) error { return c.evict(x.Context, x.Args().First(), x.Bool("force")) },
		},
		{
			Name: "forget", Category: apps.InMesh, ArgsUsage: "NAME", Usage: "forget whose endpoint a name was",
			Description: "A name belongs to the user who had it when `ztm terminal`, `ztm script` or `ztm forward` used it first, and is refused\n" +
				"if another user has it later. Run this only after the new owner has told you that this is right. The next use of\n" +
				"the name decides anew.\n\n" +
				"Example:\n  ztm forget office",
			Action: func(x *cli.Context) error { return c.forget(x.Context, x.Args().First()) },
		},
		{
			Name: "rotate", Usage: "replace the key of root",
			Description: "Example:\n  ztm rotate root --permit new-root.json",
			Subcommands: []*cli.Command{{
				Name: "root", Category: apps.InMesh, Usage: "replace the CA key, with which users are admitted and evicted",
				Description: "Run it where the present key is: on an endpoint of user root. Devices that connect within the grace get new\n" +
					"certificates by themselves; the others have to be invited again. Join tokens that nobody has used are void.\n" +
					"Other endpoints of root join again with the new permit: ztm join MESH --as NAME --permit FILE.\n\n" +
					"If the key was stolen use --grace 0: it voids all certificates at once. Then start the hub with --permit FILE and\n" +
					"invite everybody again. Endpoints that join again keep their tunnels and settings.\n\n" +
					"Example:\n  ztm rotate root --permit new-root.json",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Required: true, Usage: "`FILE` for the new root permit: keep it where the old one was"},
					&cli.DurationFlag{Name: "grace", Value: 30 * 24 * time.Hour, DefaultText: "720h", Usage: "`TIME` for which old certificates are accepted"},
					&cli.BoolFlag{Name: "again", Usage: "replace nothing; write the root permit once more"},
				},
				Action: func(x *cli.Context) error {
					return c.rotate(x.Context, rotation{permit: x.String("permit"), grace: x.Duration("grace"), again: x.Bool("again")})
				},
			}},
		},
		{
			Name: "label", Category: apps.AtEndpoint, Usage: "show or change the labels of this endpoint",
			Description: "Example:\n  ztm label --add env:prod web --remove test\n  ztm ep nas label",
			Flags: []cli.Flag{
				&cli.StringSliceFlag{Name: "add", Usage: "`LABEL` to add"},
				&cli.StringSliceFlag{Name: "remove", Aliases: []string{"delete"}, Usage: "`LABEL` to remove"},
			},
			Action: func(x *cli.Context) error {
				return c.label(x.Context, x.StringSlice("add"), x.StringSlice("remove"))
			},
		},
	}
}

// views are the commands that show the mesh.
func (c commands) views(more apps.Commands) []*cli.Command {
	ep := []string{"endpoint", "endpoints"}
	return []*cli.Command{
		{
			Name: "get", Usage: "list meshes, endpoints, hubs, users, tunnels",
			Description: "Example:\n  ztm get ep\n  ztm get mesh -o json",
			Subcommands: append([]*cli.Command{
				view{"mesh", []string{"meshes"}, apps.AtEndpoint, "[MESH]", "list the meshes that this agent has joined", "ztm get mesh -o wide", c.getMesh}.command(),
				c.getEndpoint(),
				view{"hub", []string{"hubs"}, apps.AtEndpoint, "[HUB]", "list the hubs of the mesh", "ztm get hub", c.getHubs}.command(),
				c.getUser(),
			}, more.Get...),
		},
		{
			Name: "describe", Usage: "show one of them in detail: a mesh, an endpoint, a tunnel",
			Description: "Example:\n  ztm describe ep laptop",
			Subcommands: append([]*cli.Command{
				view{"mesh", []string{"meshes"}, apps.AtEndpoint, "[MESH]", "show a mesh in detail", "ztm describe mesh home", c.describeMesh}.command(),
				view{"ep", ep, apps.FromEndpoint, "[EP]", "show an endpoint in detail", "ztm describe ep laptop", c.describeEndpoint}.command(),
				view{"hub", []string{"hubs"}, apps.AtEndpoint, "HUB", "show a hub in detail", "ztm describe hub hub.example.com:8888", c.describeHub}.command(),
				view{"user", []string{"users"}, apps.AtEndpoint, "USER", "show a user in detail", "ztm describe user bob", c.describeUser}.command(),
			}, more.Describe...),
		},
		of("ping", view{"ep", ep, apps.FromEndpoint, "[EP]", "measure the way to an endpoint", "ztm ping ep laptop", c.ping}),
		of("stats", view{"ep", ep, apps.AtEndpoint, "[EP]", "show how much an endpoint has moved since it started", "ztm stats ep laptop", c.stats}, more.Stats...),
		of("log", view{"ep", ep, apps.AtEndpoint, "[EP]", "show the recent log of an endpoint", "ztm log ep laptop", c.log}),
	}
}

// view is a command that shows one kind of thing and has no options.
type view struct {
	name    string
	aliases []string
	about   string // which prefixes it heeds: [apps.AtEndpoint] and its like
	args    string // one name, in brackets if it may be missing
	usage   string
	example string
	show    func(ctx context.Context, name string) error
}

func (v view) command() *cli.Command {
	return &cli.Command{
		Name: v.name, Aliases: v.aliases, Category: v.about, ArgsUsage: v.args, Usage: v.usage, Description: "Example:\n  " + v.example,
		Action: func(x *cli.Context) error { return v.show(x.Context, x.Args().First()) },
	}
}

// of is a verb that has one view, and perhaps more of the apps. Without a name it is about the endpoint of the prefix, or the
// agent's own.
func of(verb string, v view, more ...*cli.Command) *cli.Command {
	c := v.command()
	return &cli.Command{Name: verb, Usage: v.usage, Description: c.Description, Subcommands: append([]*cli.Command{c}, more...)}
}

// getUser says what the list is: the hub's directory, and no list of all who could come.
func (c commands) getUser() *cli.Command {
	cmd := view{"user", []string{"users"}, apps.AtEndpoint, "[USER]", "list the users of whom an endpoint is in the directory", "ztm get user", c.getUsers}.command()
	cmd.Description = "The directory of the hub lists endpoints that have been there. It does not list users who hold a permit and have not\n" +
		"joined yet. It loses endpoints that are offline when the hub's data directory is made anew.\n\n" + cmd.Description
	return cmd
}

func (c commands) getEndpoint() *cli.Command {
	return &cli.Command{
		Name: "ep", Aliases: []string{"endpoint", "endpoints"}, Category: apps.AtEndpoint, ArgsUsage: "[KEYWORD]", Usage: "list the endpoints of the mesh",
		Description: "KEYWORD is a part of a name or of a label.\n\nExample:\n  ztm get ep\n  ztm get ep web --online -o wide",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "only those of `USER`"},
			&cli.StringFlag{Name: "offer", Usage: "only those that offer `SERVICE`, for example tunnel/tcp/web"},
			&cli.BoolFlag{Name: "online", Usage: "only those that are online"},
			&cli.IntFlag{Name: "limit", Usage: "at most `COUNT`"},
			&cli.IntFlag{Name: "offset", Usage: "skip the first `COUNT`"},
		},
		Action: func(x *cli.Context) error {
			return c.getEndpoints(x.Context, apps.Filter{
				Keyword: x.Args().First(), User: x.String("user"), Offer: x.String("offer"), Online: x.Bool("online"),
				Limit: x.Int("limit"), Offset: x.Int("offset"),
			})
		},
	}
}
