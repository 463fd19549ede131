package mesh

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/apps"
	"ztm/tunnel/identity"
)

// Commands returns the commands that are about the mesh itself. What the apps have to list, to
// describe and to count stands beside what the mesh has: `ztm get tunnel` and `ztm get ep`.
func Commands(console *console.Console, more apps.Commands) []*cli.Command {
	c := commands{console}
	return append(c.members(), c.views(more)...)
}

// members are the commands that change who belongs to the mesh.
func (c commands) members() []*cli.Command {
	return []*cli.Command{
		c.joinCommand(), c.leaveCommand(), c.identityCommand(), c.inviteCommand(), c.evictCommand(),
		c.revokeCommand(), c.approveCommand(), c.forgetCommand(), c.rotateCommand(), c.setCommand(),
		c.labelCommand(),
	}
}

func (c commands) joinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Category: apps.Device, ArgsUsage: "MESH", Usage: "join a mesh with a permit",
		Description: "MESH is your name for the mesh on this device.\n\n" +
			"Example:\n  ztm join home --as laptop --permit bob.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "as", Required: true, Usage: "join as `NAME`"},
			&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Required: true, Usage: "read the permit from `FILE`; - for standard input"},
			&cli.DurationFlag{Name: "wait", Usage: "wait up to `TIME` for the endpoint that redeems the token, and for approval"},
			&cli.BoolFlag{Name: "replace", Usage: "take the place of another device of the same user that has the name, also while it is online"},
		},
		Action: func(x *cli.Context) error {
			if x.Duration("wait") < 0 {
				return &apps.UsageError{Err: errors.New("option --wait: want a time such as 10m")}
			}
			return c.join(x.Context, x.Args().First(), x.String("as"), x.String("permit"),
				joinWait{time: x.Duration("wait"), given: x.IsSet("wait"), replace: x.Bool("replace")})
		},
	}
}

func (c commands) leaveCommand() *cli.Command {
	return &cli.Command{
		Name: "leave", Category: apps.Device, ArgsUsage: "MESH", Usage: "leave a mesh",
		Description: "The device keeps its key. With a new permit it can join again as the same endpoint.\n\n" +
			"Example:\n  ztm leave home",
		Action: func(x *cli.Context) error { return c.leave(x.Context, x.Args().First()) },
	}
}

func (c commands) identityCommand() *cli.Command {
	return &cli.Command{
		Name: "identity", Category: apps.AtEndpoint, Usage: "print the public key of this device",
		Description: "An invitation for this device alone needs it: see ztm invite --help.\n\n" +
			"Example:\n  ztm identity > bob.pub",
		Action: func(x *cli.Context) error { return c.identity(x.Context) },
	}
}

// validUntil is the end that an invitation gives the access of its user; the zero time: none.
func validUntil(x *cli.Context, now time.Time) (end time.Time, err error) {
	if !x.IsSet("valid") {
		return end, nil
	}
	if end, err = apps.ParseEnd(x.String("valid"), now); err == nil && end.Sub(now) < time.Minute {
		err = errors.New("want a minute at least")
	}
	return end, err
}

func (c commands) inviteCommand() *cli.Command {
	return &cli.Command{
		Name: "invite", Category: apps.InMesh, ArgsUsage: "[USER]", Usage: "write a permit that lets a user join the mesh, or that makes another hub",
		Description: "With --identity the permit works for one device and is no secret. Without it the permit holds a token:\n" +
			"the first device that presents it can join, once, until the token expires.\n\n" +
			"A token is redeemed by one endpoint of root, or by a hub that keeps the CA key, which must be online then: --redeemer\n" +
			"chooses it. With --approve the device waits until somebody runs `ztm approve` there. An --ephemeral endpoint goes, with\n" +
			"its name, five minutes after it has disconnected: put such a permit with many --uses into the Secret of pods.\n\n" +
			"With --hub it is for another hub of the mesh, which has made its key with: ztm run hub --identity FILE\n\n" +
			"Example:\n  ztm invite bob --identity bob.pub --permit bob.json\n  ztm invite bob --permit bob.json --expires 1h\n" +
			"  ztm invite gil --permit gil.json --valid 30d\n  ztm invite pods --permit pods.json --uses 1000 --ephemeral --expires 2160h\n" +
			"  ztm invite --hub --identity hub2.pub --name hub2.example.com:8888 --permit hub2.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "read the public key of the device from `FILE`; - for standard input"},
			&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Usage: "write the permit to `FILE` (default: standard output)"},
			&cli.BoolFlag{Name: "hub", Usage: "write the permit of a hub"},
			&cli.StringSliceFlag{Name: "name", Usage: "with --hub: tell agents to reach it at `HOST:PORT`"},
			&cli.DurationFlag{Name: "expires", Value: 24 * time.Hour, DefaultText: "24h", Usage: "let the token expire after `TIME`"},
			&cli.IntFlag{Name: "uses", Value: 1, DefaultText: "1", Usage: "let `COUNT` devices join with the token"},
			&cli.BoolFlag{Name: "ephemeral", Usage: "let the endpoint go when it has disconnected"},
			&cli.BoolFlag{Name: "approve", Usage: "let the device wait until somebody approves it"},
			&cli.StringFlag{Name: "valid", Usage: "end the user's access in `TIME`, such as 8h or 30d, or at 2026-12-24T18:00:00Z, or after 2026-12-24 (UTC), on all of their devices"},
			&cli.StringFlag{Name: "redeemer", Usage: "let `EP` of root redeem the token, or: hub"},
		},
		Action: func(x *cli.Context) error {
			if x.Bool("hub") {
				return c.inviteHubCommand(x)
			}
			if x.Args().First() == "" {
				return &apps.HintError{Err: apps.Usagef("missing USER"), Hint: "usage: ztm invite USER [OPTIONS]"}
			}
			if x.IsSet("name") {
				return &apps.UsageError{Err: errors.New("option --name is for a hub: give it with --hub")}
			}
			for _, name := range []string{"expires", "uses", "ephemeral", "approve", "redeemer"} {
				if x.IsSet(name) && x.IsSet("identity") {
					return &apps.UsageError{Err: fmt.Errorf("option --%s is for a token: it cannot be given with --identity", name)}
				}
			}
			valid, err := validUntil(x, time.Now())
			if err != nil {
				return &apps.UsageError{Err: fmt.Errorf("option --valid: %w", err)}
			}
			if x.Int("uses") < 1 || x.Int("uses") > identity.MaxUses {
				return &apps.UsageError{Err: fmt.Errorf("option --uses: want a number from 1 to %d", identity.MaxUses)}
			}
			return c.invite(x.Context, invitation{
				user: x.Args().First(), identity: x.String("identity"), permit: x.String("permit"), expires: x.Duration("expires"),
				uses: x.Int("uses"), ephemeral: x.Bool("ephemeral"), approve: x.Bool("approve"), redeemer: x.String("redeemer"), valid: valid,
			})
		},
	}
}

func (c commands) revokeCommand() *cli.Command {
	return &cli.Command{
		Name: "revoke", Usage: "void what was given out",
		Description: "Example:\n  ztm revoke token 5f0c",
		Subcommands: []*cli.Command{{
			Name: "token", Category: apps.AtEndpoint, ArgsUsage: "ID", Usage: "void a join token that was not used up",
			Description: "ID is what `ztm get token` shows, or its beginning.\n\nExample:\n  ztm revoke token 5f0c",
			Action:      func(x *cli.Context) error { return c.revokeToken(x.Context, x.Args().First()) },
		}},
	}
}

func (c commands) approveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Category: apps.AtEndpoint, ArgsUsage: "NAME", Usage: "let in a device that waits for approval",
		Description: "NAME is that of the device, or its ID. Compare the ID with the one that the device shows. Run it at the endpoint that\n" +
			"redeems the token: `ztm get approval` there lists who waits.\n\n" +
			"Example:\n  ztm approve laptop\n  ztm ep root-1 approve laptop --deny",
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "deny", Usage: "refuse the device"}},
		Action: func(x *cli.Context) error { return c.approve(x.Context, x.Args().First(), x.Bool("deny")) },
	}
}

func (c commands) forgetCommand() *cli.Command {
	return &cli.Command{
		Name: "forget", Category: apps.InMesh, ArgsUsage: "NAME", Usage: "forget the user behind the name of an endpoint",
		Description: "The first use of a name by `ztm terminal`, `ztm script` or `ztm forward` remembers its user, and so does that of a\n" +
			"cluster's name by `ztm kube login`. The name is refused when another user has it later. Run this only after the new\n" +
			"owner has confirmed the change. The next use of the name remembers its user anew.\n\n" +
			"Example:\n  ztm forget office",
		Action: func(x *cli.Context) error { return c.forget(x.Context, x.Args().First()) },
	}
}

func (c commands) rotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "replace the key of the mesh",
		Description: "Example:\n  ztm rotate root --permit new-root.json",
		Subcommands: []*cli.Command{{
			Name: "root", Category: apps.InMesh, Usage: "replace the CA key, which admits and evicts users",
			Description: "Run it on an endpoint of user root that holds the present key. Devices that connect within the grace period get\n" +
				"new certificates by themselves. The others must be invited again. Unused join tokens are void. Other endpoints\n" +
				"of root join again with the new permit: ztm join MESH --as NAME --permit FILE.\n\n" +
				"If the key was stolen, use --grace 0, which voids all certificates at once. Then start the hub with --permit FILE\n" +
				"and invite everybody again. Endpoints that join again keep their tunnels and settings.\n\n" +
				"Example:\n  ztm rotate root --permit new-root.json",
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Required: true, Usage: "write the new root permit to `FILE`; keep it where the old one was"},
				&cli.DurationFlag{Name: "grace", Value: 30 * 24 * time.Hour, DefaultText: "720h", Usage: "accept old certificates for `TIME`"},
				&cli.BoolFlag{Name: "again", Usage: "only write the present root permit again"},
			},
			Action: func(x *cli.Context) error {
				if x.IsSet("grace") && x.Bool("again") {
					return &apps.UsageError{Err: errors.New("option --grace cannot be given with --again, which replaces nothing")}
				}
				return c.rotate(x.Context, rotation{permit: x.String("permit"), grace: x.Duration("grace"), again: x.Bool("again")})
			},
		}},
	}
}

func (c commands) setCommand() *cli.Command {
	return &cli.Command{
		Name: "set", Usage: "set where the hubs of a mesh are",
		Description: "Example:\n  ztm set hubs hub-2.example.com:8888",
		Subcommands: []*cli.Command{{
			Name: "hubs", Category: apps.InMesh, ArgsUsage: "HOST:PORT ...", Usage: "set the addresses of the hubs of the mesh on this device",
			Description: "An agent learns of new hubs and new addresses by itself. Run this only on a device that has lost its way: all hubs\n" +
				"moved while it was away. It replaces what the permit said, and what hubs have said since. Which hub is at an\n" +
				"address is verified when the agent connects.\n\n" +
				"Example:\n  ztm mesh home set hubs hub-2.example.com:8888 hub-3.example.com:8888",
			Action: func(x *cli.Context) error { return c.setHubs(x.Context, x.Args().Slice()) },
		}},
	}
}

func (c commands) labelCommand() *cli.Command {
	return &cli.Command{
		Name: "label", Category: apps.AtEndpoint, Usage: "show or change the labels of an endpoint",
		Description: "Example:\n  ztm label --add env:prod web --remove test\n  ztm ep nas label",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "add", Usage: "add `LABEL`"},
			&cli.StringSliceFlag{Name: "remove", Aliases: []string{"delete"}, Usage: "remove `LABEL`"},
		},
		Action: func(x *cli.Context) error {
			return c.label(x.Context, x.StringSlice("add"), x.StringSlice("remove"))
		},
	}
}

func (c commands) inviteHubCommand(x *cli.Context) error {
	for _, name := range []string{"expires", "uses", "ephemeral", "approve", "redeemer"} {
		if x.IsSet(name) {
			return &apps.UsageError{Err: fmt.Errorf("option --%s is for a token: it cannot be given with --hub", name)}
		}
	}
	switch {
	case x.Args().Present():
		return &apps.UsageError{Err: fmt.Errorf("a hub is of no user: %q cannot be given with --hub", x.Args().First())}
	case x.String("identity") == "":
		return &apps.UsageError{Err: errors.New("option --identity is missing: the hub writes its public key with ztm run hub --identity FILE")}
	}
	i := invitation{identity: x.String("identity"), permit: x.String("permit")}
	return c.inviteHub(x.Context, i, x.StringSlice("name"))
}

// views are the commands that show the mesh.
func (c commands) views(more apps.Commands) []*cli.Command {
	ep := []string{"endpoint", "endpoints"}
	return []*cli.Command{
		{
			Name: "get", Usage: "list meshes, endpoints, hubs, users, and what apps have",
			Description: "Example:\n  ztm get ep\n  ztm get mesh -o json",
			Subcommands: append([]*cli.Command{
				view{"mesh", []string{"meshes"}, apps.AtEndpoint, "[MESH]", "list the meshes that this agent has joined", "ztm get mesh -o wide", c.getMesh}.command(),
				c.getEndpoint(),
				view{"hub", []string{"hubs"}, apps.AtEndpoint, "[HUB]", "list the hubs of the mesh", "ztm get hub", c.getHubs}.command(),
				c.getUser(),
				view{"token", []string{"tokens"}, apps.AtEndpoint, "", "list the join tokens of an endpoint that are open", "ztm get token", c.getTokens}.command(),
				view{"approval", []string{"approvals"}, apps.AtEndpoint, "", "list the devices that wait for approval at an endpoint", "ztm get approval", c.getApprovals}.command(),
			}, more.Get...),
		},
		{
			Name: "describe", Usage: "show a mesh, an endpoint, a hub, a user, or what apps have in detail",
			Description: "Example:\n  ztm describe ep laptop",
			Subcommands: append([]*cli.Command{
				view{"mesh", []string{"meshes"}, apps.AtEndpoint, "[MESH]", "show a mesh in detail", "ztm describe mesh home", c.describeMesh}.command(),
				view{"ep", ep, apps.FromEndpoint, "[EP]", "show an endpoint in detail", "ztm describe ep laptop", c.describeEndpoint}.command(),
				view{"hub", []string{"hubs"}, apps.AtEndpoint, "HUB", "show a hub in detail", "ztm describe hub hub.example.com:8888", c.describeHub}.command(),
				view{"user", []string{"users"}, apps.AtEndpoint, "USER", "show a user in detail", "ztm describe user bob", c.describeUser}.command(),
			}, more.Describe...),
		},
		of("ping", view{"ep", ep, apps.FromEndpoint, "[EP]", "measure the round-trip time to an endpoint", "ztm ping ep laptop", c.ping}),
		of("stats", view{"ep", ep, apps.AtEndpoint, "[EP]", "show the traffic of an endpoint since its agent started", "ztm stats ep laptop", c.stats}, more.Stats...),
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

// of is a verb that has one view, and perhaps more of the apps. Without a name it is about the
// endpoint of the prefix, or the agent's own.
func of(verb string, v view, more ...*cli.Command) *cli.Command {
	c := v.command()
	return &cli.Command{Name: verb, Usage: v.usage, Description: c.Description, Subcommands: append([]*cli.Command{c}, more...)}
}

// getUser says what the list is: the hub's directory, and what this endpoint knows of others.
func (c commands) getUser() *cli.Command {
	return &cli.Command{
		Name: "user", Aliases: []string{"users"}, Category: apps.AtEndpoint, ArgsUsage: "[USER]", Usage: "list the users who are in the mesh, were admitted or invited, or were evicted",
		Description: "The hub's directory lists endpoints that have connected, and forgets those that are offline when the hub starts with\n" +
			"a new data directory. An endpoint of root adds the users of the endpoints that it has admitted itself (Admitted), and\n" +
			"of the tokens that it has made (Invited). What other endpoints of root did is known there alone.\n\n" +
			"Example:\n  ztm get user\n  ztm get user --evicted",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "evicted", Usage: "list all evictions: users, endpoints and hubs"}},
		Action: func(x *cli.Context) error {
			if x.Bool("evicted") {
				return c.getEvicted(x.Context)
			}
			return c.getUsers(x.Context, x.Args().First())
		},
	}
}

func (c commands) getEndpoint() *cli.Command {
	return &cli.Command{
		Name: "ep", Aliases: []string{"endpoint", "endpoints"}, Category: apps.AtEndpoint, ArgsUsage: "[KEYWORD]", Usage: "list the endpoints of the mesh",
		Description: "KEYWORD is part of a name or a label.\n\nExample:\n  ztm get ep\n  ztm get ep web --online -o wide",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "user", Usage: "list only endpoints of `USER`"},
			&cli.StringFlag{Name: "offer", Usage: "list only endpoints that offer `SERVICE`, for example tunnel/tcp/web"},
			&cli.BoolFlag{Name: "online", Usage: "list only endpoints that are online"},
			&cli.IntFlag{Name: "limit", Usage: "list at most `COUNT` endpoints"},
			&cli.IntFlag{Name: "offset", Usage: "skip the first `COUNT` endpoints"},
		},
		Action: func(x *cli.Context) error {
			return c.getEndpoints(x.Context, apps.Filter{
				Keyword: x.Args().First(), User: x.String("user"), Offer: x.String("offer"), Online: x.Bool("online"),
				Limit: x.Int("limit"), Offset: x.Int("offset"),
			})
		},
	}
}

// evictCommand is `ztm evict`: a user, one endpoint, or a hub.
func (c commands) evictCommand() *cli.Command {
	reason := &cli.StringFlag{Name: "reason", Usage: "say in the trust list why: `TEXT`, which all members can read"}
	return &cli.Command{
		Name: "evict", Category: apps.InMesh, ArgsUsage: "USER", Usage: "remove a user and all of their devices, one endpoint, or a hub from the mesh",
		Description: "It cuts their sessions at once. The user can be invited again. After `ep` or `hub` the name is that of one endpoint or\n" +
			"hub; the other endpoints of its user go on.\n\n" +
			"Example:\n  ztm evict bob\n  ztm evict ep bobs-phone --reason stolen",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "evict a user who has no known endpoint"}, reason},
		Action: func(x *cli.Context) error {
			return c.evict(x.Context, x.Args().First(), x.Bool("force"), x.String("reason"))
		},
		Subcommands: []*cli.Command{
			{
				Name: "ep", Aliases: []string{"endpoint"}, Category: apps.InMesh, ArgsUsage: "EP", Usage: "remove one endpoint from the mesh",
				Description: "EP is a name or an ID. The device needs a new permit to come back: ztm join --permit FILE.\n\n" +
					"Example:\n  ztm evict ep bobs-phone --reason stolen",
				Flags: []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "evict an ID that the mesh does not know"}, reason},
				Action: func(x *cli.Context) error {
					return c.evictEndpoint(x.Context, x.Args().First(), x.Bool("force"), x.String("reason"))
				},
			},
			{
				Name: "hub", Category: apps.InMesh, ArgsUsage: "HUB", Usage: "remove a hub from the mesh",
				Description: "HUB is an ID, or the address of a hub that this agent is attached to. Agents leave it at once and take another hub.\n\n" +
					"Example:\n  ztm evict hub hub2.example.com:8888 --reason stolen",
				Flags:  []cli.Flag{reason},
				Action: func(x *cli.Context) error { return c.evictHub(x.Context, x.Args().First(), x.String("reason")) },
			},
		},
	}
}
