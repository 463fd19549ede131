// Package cli is the command line of groups and of the policy: `ztm group`, `ztm policy`,
// `ztm who-can`.
package cli

import (
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/agent/feature"
	"ztm/apps"
)

// Commands are the commands of the policy.
func Commands(c *console.Console) []*cli.Command {
	p := commands{c}
	return []*cli.Command{p.groupCommand(), p.policyCommand(), p.whoCanCommand(), p.canCommand()}
}

// Views are what the policy has to show below the verbs that all share: `ztm get policy` and
// `ztm describe policy`.
func Views(c *console.Console) apps.Commands {
	p := commands{c}
	return apps.Commands{
		Get: []*cli.Command{{
			Name: "policy", Category: apps.AtEndpoint, Usage: "show which policy an endpoint has",
			Description: apps.Example("ztm get policy", "ztm ep nas get policy"),
			Action:      func(x *cli.Context) error { return p.status(x.Context) },
		}},
		Describe: []*cli.Command{{
			Name: "policy", Category: apps.AtEndpoint, Usage: "list the grants of the policy that are for an endpoint",
			Description: "Whom a group means: ztm group describe.\n\n" + apps.Example("ztm describe policy", "ztm ep nas describe policy"),
			Action:      func(x *cli.Context) error { return p.grants(x.Context) },
		}},
	}
}

func (p commands) groupCommand() *cli.Command {
	group := &cli.Command{
		Name: "group", Usage: "change and show groups of users, which rules name as group:NAME",
		Description: "Groups are signed with the mesh's CA key: they are changed at an endpoint of root that holds it.\n\n" +
			apps.Example("ztm group add ops bob carol", "ztm ep nas tunnel open outbound tcp/db --targets 5432 --users group:ops"),
		Subcommands: []*cli.Command{
			{
				Name: "get", Category: apps.AtEndpoint, Usage: "list groups",
				Description: "An endpoint that does not hold the CA key knows those that matter there.\n\n" + apps.Example("ztm group get"),
				Action:      func(x *cli.Context) error { return p.list(x.Context) },
			},
			{
				Name: "describe", Category: apps.AtEndpoint, ArgsUsage: "GROUP", Usage: "show who is in a group, and until when",
				Description: apps.Example("ztm group describe ops"),
				Action:      func(x *cli.Context) error { return p.describe(x.Context, x.Args().First()) },
			},
		},
	}
	if feature.Policies {
		group.Subcommands = append(p.groupChanges(), group.Subcommands...)
	}
	return group
}

// groupChanges are the commands that change a group.
func (p commands) groupChanges() []*cli.Command {
	reason := &cli.StringFlag{Name: "reason", Usage: "put `TEXT` into the audit log of the endpoint"}
	return []*cli.Command{
		{
			Name: "add", Category: apps.AtEndpoint, ArgsUsage: "GROUP [USER...]", Usage: "put users into a group, and make it if there is none",
			Description: "A membership with an end is over then by itself: what runs is cut within seconds.\n\n" +
				apps.Example("ztm group add ops bob carol", "ztm group add guests gil --until 2026-12-24", "ztm group add breakglass --max 1h",
					"ztm group add breakglass bob --until 1h --reason 'disk full'"),
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "until", Usage: "end the membership in `TIME`, such as 8h or 30d, or at 2026-12-24T18:00:00Z, or after 2026-12-24 (UTC)"},
				&cli.DurationFlag{Name: "max", Usage: "let no membership last longer than `TIME`: each has an end then"},
				reason,
			},
			Action: func(x *cli.Context) error {
				var longest *time.Duration
				if x.IsSet("max") {
					d := x.Duration("max")
					longest = &d
				}
				return p.add(x.Context, x.Args().First(), x.Args().Tail(), x.String("until"), longest, x.String("reason"))
			},
		},
		{
			Name: "remove", Category: apps.AtEndpoint, ArgsUsage: "GROUP [USER...]", Usage: "take users out of a group, or the group away",
			Description: "What they have open by it is cut within seconds. Without users the group itself goes.\n\n" +
				apps.Example("ztm group remove ops carol", "ztm group remove ops"),
			Flags: []cli.Flag{reason},
			Action: func(x *cli.Context) error {
				return p.remove(x.Context, x.Args().First(), x.Args().Tail(), x.String("reason"))
			},
		},
	}
}

func (p commands) policyCommand() *cli.Command {
	policy := &cli.Command{
		Name: "policy", Usage: "show the policy of the mesh, and give endpoints the labels that it goes by",
		Description: apps.Example("ztm policy get", "ztm policy label till-7 kind=till"),
		Subcommands: []*cli.Command{
			{
				Name: "get", Category: apps.AtEndpoint, Usage: "show which policy an endpoint has",
				Description: "Where the version was made it names the endpoints that are online and have not confirmed it.\n\n" +
					apps.Example("ztm policy get", "ztm ep nas policy get"),
				Action: func(x *cli.Context) error { return p.status(x.Context) },
			},
		},
	}
	if feature.Policies {
		policy.Subcommands = append(policy.Subcommands, p.policyChanges()...)
	}
	return policy
}

// policyChanges are the commands that change the policy, but for those of files.
func (p commands) policyChanges() []*cli.Command {
	return []*cli.Command{
		{
			Name: "direct", Category: apps.AtEndpoint, ArgsUsage: "auto|lan|off", Usage: "set how far all endpoints go without a hub",
			Description: "With lan they meet in their own networks alone, and with off every byte passes a hub. An endpoint that goes less far\n" +
				"by `ztm config direct` stays there.\n\n" + apps.Example("ztm policy direct off"),
			Action: func(x *cli.Context) error { return p.direct(x.Context, x.Args().First()) },
		},
		{
			Name: "label", Category: apps.AtEndpoint, ArgsUsage: "NAME LABEL...", Usage: "give an endpoint labels that rules and grants go by",
			Description: "An endpoint's own labels are for searching: they give no rights. These are signed with the CA key, and belong to\n" +
				"the device that has the name now.\n\n" +
				apps.Example("ztm policy label till-7 kind=till site=12", "ztm policy label --remove till-7 site=12"),
			Flags: []cli.Flag{
				&cli.BoolFlag{Name: "remove", Usage: "take the labels away"},
				&cli.BoolFlag{Name: "repin", Usage: "another device has the name by now, and that is right"},
			},
			Action: func(x *cli.Context) error {
				return p.label(x.Context, x.Args().First(), x.Args().Tail(), x.Bool("remove"), x.Bool("repin"))
			},
		},
	}
}

func (p commands) canCommand() *cli.Command {
	return &cli.Command{
		Name: "can", Category: apps.AtEndpoint, ArgsUsage: "[USER]", Usage: "list what the policy gives a user, or what you may reach at an endpoint",
		Description: "With USER it is asked at an endpoint of root that holds the CA key, and lists what the policy gives. What the rules of\n" +
			"endpoints let the user do beside that, or keep from them, only those endpoints know: ask them with `ztm who-can reach`.\n" +
			"With --at EP endpoint EP is asked what you may reach there, by its owner's rules and the policy. Everybody may ask that\n" +
			"of themselves.\n\n" + apps.Example("ztm can --at nas", "ztm can bob"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "at", Usage: "ask endpoint `EP` what you may reach there"}},
		Action: func(x *cli.Context) error {
			if ep := x.String("at"); ep != "" {
				return p.mayAt(x.Context, ep, x.Args().Present())
			}
			return p.can(x.Context, x.Args().First())
		},
	}
}

func (p commands) whoCanCommand() *cli.Command {
	return &cli.Command{
		Name: "who-can", Usage: "show who can reach something, and by which rule",
		Description: apps.Example("ztm who-can reach nas tunnel/tcp/db"),
		Subcommands: []*cli.Command{{
			Name: "reach", Category: apps.InMesh, ArgsUsage: "EP TARGET", Usage: "show who can reach a target of an app at an endpoint",
			Description: "The endpoint answers, by what it decides by: its owner's rule and the policy that it has. Who is not in the list cannot;\n" +
				"perhaps is who can from some of their endpoints alone, and the user * is everybody whose access has not ended.\n" +
				"Its own user may ask, root, and whom a grant gives policy/read there. Of one that is offline this endpoint says whom the\n" +
				"policy would let, if it holds the CA key.\n" +
				"TARGET is an app and what of it, as grants name it; tcp/NAME is short for tunnel/tcp/NAME.\n\n" +
				apps.Example("ztm who-can reach nas tcp/db", "ztm who-can reach nas terminal"),
			Action: func(x *cli.Context) error { return p.whoCan(x.Context, x.Args().Get(0), x.Args().Get(1)) },
		}},
	}
}
