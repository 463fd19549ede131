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
	}
}
