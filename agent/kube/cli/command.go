// Package cli is the command line of clusters: who offers one, what is exposed, and kubectl through
// the mesh.
package cli

import (
	"github.com/urfave/cli/v2"

	"ztm/agent/kube/access"
	"ztm/agent/kube/asked"
	"ztm/apps"
)

// Kind is the app as a program that has it sees it.
func Kind() apps.Kind {
	return apps.Kind{Name: access.Name, New: access.New, Commands: func(c apps.Console) apps.Commands {
		return apps.Commands{Top: []*cli.Command{commands(&client{c})}}
	}}
}

// commands returns the command `ztm kube`.
func commands(c *client) *cli.Command {
	return &cli.Command{
		Name:  access.Name,
		Usage: "reach Kubernetes clusters: Services by name, and the API server as yourself",
		Description: apps.Example(
			"ztm kube ls",
			"ztm kube ls kube-office",
			"ztm kube proxy kube-office",
			"ztm kube login office",
			"kubectl --kubeconfig ~/.kube/ztm-office.json get pods"),
		Subcommands: []*cli.Command{lsCommand(c), loginCommand(c), proxyCommand(c), logoutCommand(c), tokenCommand(c), rbacCommand(c)},
	}
}

func lsCommand(c *client) *cli.Command {
	return &cli.Command{
		Name: "ls", Category: apps.InMesh, Usage: "list the clusters whose API server can be reached, or what a cluster exposes", ArgsUsage: "[EP]",
		Description: "An endpoint of your own shows its Services and their targets.\n\n" + apps.Example("ztm kube ls", "ztm kube ls kube-office"),
		Action: func(x *cli.Context) error {
			if x.NArg() > 1 {
				return apps.Usagef("unexpected %q", x.Args().Get(1))
			}
			return c.ls(x.Context, x.Args().First())
		},
	}
}

func loginCommand(c *client) *cli.Command {
	return &cli.Command{
		Name: "login", Category: apps.InMesh, Usage: "write a kubeconfig for a cluster", ArgsUsage: "CLUSTER",
		Description: "CLUSTER is the name of a cluster, see ztm kube ls: of the endpoints that lead there each may take a request.\n" +
			"EP is one endpoint. Both are those of one user: where several users have the name, say with --user which you mean.\n\n" +
			"kubectl then goes through the mesh, to the API server, as the user ztm:NAME of your name in the mesh. What that\n" +
			"user may do is for the cluster's administrators to say. The kubeconfig has no secret: kubectl asks this agent\n" +
			"for a token of ten minutes, which only your account can get.\n\n" +
			apps.Example("ztm kube login office", "ztm kube login office --kubeconfig office.yaml", "kubectl --kubeconfig ~/.kube/ztm-office.json get pods"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "kubeconfig", Usage: "write to `FILE`, which is new, or - for standard output (default: ~/.kube/ztm-NAME.json)"},
			&cli.StringFlag{Name: "user", Usage: "the endpoints are those of `USER`"},
		},
		Action: func(x *cli.Context) error {
			name, err := only(x)
			if err != nil {
				return err
			}
			return c.login(x.Context, name, x.String("user"), x.String("kubeconfig"))
		},
	}
}

func proxyCommand(c *client) *cli.Command {
	return &cli.Command{
		Name: "proxy", Category: apps.FromEndpoint, Usage: "reach all names of the cluster behind an endpoint, through the proxy of this one", ArgsUsage: "EP",
		Description: "Names of the cluster then leave the mesh at EP, whatever other exits serve. Where EP is of your own user, it becomes\n" +
			"an exit for them. Of two clusters with the same names the one that was named last is meant: with --namespaces\n" +
			"each can have its own. Undo it with: ztm proxy config --remove-via PATTERN\n\n" +
			apps.Example("ztm kube proxy kube-office", "ztm kube proxy kube-east --namespaces shop,stock", "curl -x socks5h://127.0.0.1:1080 http://web.shop.svc.cluster.local/"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Value: "127.0.0.1:1080", Usage: "where no proxy listens yet: listen on `ADDRESS`"},
			&cli.StringFlag{Name: "namespaces", Usage: "only the names of the namespaces `LIST`, with commas between them"},
			&cli.StringFlag{Name: "domain", Value: "cluster.local", Usage: "the names of the cluster end in `DOMAIN`"},
		},
		Action: func(x *cli.Context) error {
			ep, err := only(x)
			if err != nil {
				return err
			}
			n := names{x.String("domain"), asked.Words(x.String("namespaces"))}
			if err := n.check(); err != nil {
				return err
			}
			return c.proxy(x.Context, ep, x.String("listen"), n)
		},
	}
}

func logoutCommand(c *client) *cli.Command {
	return &cli.Command{
		Name: "logout", Category: apps.InMesh, Usage: "close the way to a cluster", ArgsUsage: "CLUSTER", Description: apps.Example("ztm kube logout office"),
		Action: func(x *cli.Context) error {
			ep, err := only(x)
			if err != nil {
				return err
			}
			return c.logout(x.Context, ep)
		},
	}
}

func tokenCommand(c *client) *cli.Command {
	return &cli.Command{
		Name: "token", Category: apps.InMesh, Usage: "print a token for kubectl, as its credential plugin", ArgsUsage: "CLUSTER", Description: apps.Example("ztm kube token office"),
		Action: func(x *cli.Context) error {
			ep, err := only(x)
			if err != nil {
				return err
			}
			return c.token(x.Context, ep)
		},
	}
}

func rbacCommand(c *client) *cli.Command {
	return &cli.Command{
		Name: "rbac", Category: apps.InMesh, Usage: "print the cluster's rules that let its endpoint act as today's users of the mesh",
		Description: "A rule has to name each user: what names nobody would be the right to be anybody, an administrator too.\n" +
			"So has one for groups: name those of the endpoint's option --kube-groups.\n\n" +
			apps.Example("ztm kube rbac | kubectl apply -f -", "ztm kube rbac --groups dev,ops | kubectl apply -f -"),
		Flags: []cli.Flag{&cli.StringFlag{Name: "groups", Usage: "let it be in the groups `LIST` of the mesh, too, with commas between them"}},
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			return c.rbac(x.Context, asked.Words(x.String("groups")))
		},
	}
}

// only returns the one argument of a command, the name of an endpoint or of a cluster.
func only(x *cli.Context) (string, error) {
	switch {
	case x.NArg() == 0:
		return "", apps.Usagef("name the endpoint")
	case x.NArg() > 1:
		return "", apps.Usagef("unexpected %q", x.Args().Get(1))
	}
	return x.Args().First(), nil
}
