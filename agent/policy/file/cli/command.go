// Package cli is the commands of `ztm policy` that are about files.
package cli

import (
	"github.com/urfave/cli/v2"

	"ztm/agent/console"
	"ztm/apps"
)

// Commands are the commands of `ztm policy` that are about files.
func Commands(c *console.Console) []*cli.Command {
	p := commands{c}
	file := &cli.StringFlag{Name: "file", Aliases: []string{"f"}, Required: true, Usage: "read the policy from `FILE`, YAML or JSON; - for standard input"}
	return []*cli.Command{
		{
			Name: "test", Category: apps.Device, Usage: "check a policy file and run its tests",
			Description: "It asks no agent. Each test says that a user can, or cannot, reach something at an endpoint, and is decided as the\n" +
				"endpoint would. With --from OLD it says as well who gains and loses what, compared with another file.\n\n" + apps.Example(
				"ztm policy test -f policy.yaml", "ztm policy test -f policy.yaml --from policy-old.yaml"),
			Flags:  []cli.Flag{file, &cli.StringFlag{Name: "from", Usage: "compare with the file `OLD`"}},
			Action: func(x *cli.Context) error { return p.test(x.String("file"), x.String("from")) },
		},
		{
			Name: "apply", Category: apps.AtEndpoint, Usage: "make the policy of the mesh what a file says",
			Description: "The tests of the file must hold. It shows who gains and loses what. What loses its right is cut within seconds.\n" +
				"The access of a user whom the file does not name ends as before.\n" +
				"It is done at an endpoint of root that holds the CA key.\n\n" + apps.Example(
				"ztm policy apply -f policy.yaml --dry-run", "ztm policy apply -f policy.yaml --observe", "ztm policy apply -f policy.yaml"),
			Flags: []cli.Flag{
				file, &cli.BoolFlag{Name: "dry-run", Usage: "show the difference and change nothing"},
				&cli.BoolFlag{Name: "observe", Usage: "let grants decide nothing yet: endpoints note what they would refuse, see ztm policy report"},
			},
			Action: func(x *cli.Context) error {
				return p.apply(x.Context, x.String("file"), application{dry: x.Bool("dry-run"), observe: x.Bool("observe")})
			},
		},
		{
			Name: "diff", Category: apps.AtEndpoint, Usage: "show who would gain and lose what by a file",
			Description: "The same as ztm policy apply --dry-run.\n\n" + apps.Example("ztm policy diff -f policy.yaml"),
			Flags:       []cli.Flag{file},
			Action:      func(x *cli.Context) error { return p.apply(x.Context, x.String("file"), application{dry: true}) },
		},
		{
			Name: "report", Category: apps.AtEndpoint, Usage: "show what an endpoint would refuse if the grants were enforced",
			Description: "It is for a policy that was applied with --observe: the endpoint's audit log says what was let in that no grant gives.\n" +
				"Look after a week, write the grants that are missing, and apply the file without --observe.\n\n" + apps.Example(
				"ztm ep nas policy report", "ztm ep nas policy report -o json"),
			Action: func(x *cli.Context) error { return p.report(x.Context) },
		},
		{
			Name: "adopt", Category: apps.AtEndpoint, ArgsUsage: "[EP...]", Usage: "print a policy file that gives everybody what the rules of endpoints let them reach",
			Description: "It asks endpoints for the rules of their owners, all that are online or those that are named, and changes nothing: look\n" +
				"at the file and apply it. At these endpoints everybody reaches what they reached before. No grant is for an endpoint\n" +
				"that does not answer: name it later, and what is printed then has its rules beside the policy in force. Once that is\n" +
				"so, a rule for one target can be left to the policy: --users @policy. It is done at an endpoint of root that holds\n" +
				"the CA key.\n\n" + apps.Example("ztm policy adopt > policy.yaml", "ztm policy adopt nas till-7 > policy.yaml"),
			Action: func(x *cli.Context) error { return p.adopt(x.Context, x.Args().Slice()) },
		},
		{
			Name: "remove", Category: apps.AtEndpoint, Usage: "take all grants away: the rules of endpoints decide alone again",
			Description: "Groups, labels and the ends of users stay. A rule with @policy means nobody then. It is done at an endpoint of root that\n" +
				"holds the CA key.\n\n" + apps.Example("ztm policy export > policy.yaml", "ztm policy remove"),
			Action: func(x *cli.Context) error { return p.remove(x.Context) },
		},
		{
			Name: "export", Category: apps.AtEndpoint, Usage: "print the policy of the mesh as a file",
			Description: "Tests are in no policy: keep them with the file.\n\n" + apps.Example("ztm policy export > policy.yaml"),
			Action:      func(x *cli.Context) error { return p.export(x.Context) },
		},
	}
}
