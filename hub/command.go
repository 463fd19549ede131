package hub

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/urfave/cli/v2"
)

// Command is `ztm run hub`. version is what the hub says of itself.
func Command(version string) *cli.Command {
	return &cli.Command{
		Name:  "hub",
		Usage: "run a hub in the foreground",
		Description: "The first start makes a mesh and writes its root permit: the file that makes a device root.\n" +
			"Example: ztm run hub --names hub.example.com:8888 --permit root.json",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Aliases: []string{"d"}, Usage: "keep the state in `DIR`", EnvVars: []string{"ZTM_DATA"}, DefaultText: "~/.ztm"},
			&cli.StringFlag{Name: "listen", Aliases: []string{"l"}, Usage: "listen on `[IP:]PORT`", Value: DefaultListen},
			&cli.StringSliceFlag{Name: "names", Aliases: []string{"n"}, Usage: "`HOST:PORT` under which agents reach this hub; needed for a new mesh"},
			&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Usage: "write the root permit of a new mesh to `FILE`", DefaultText: "root.json in the data directory"},
			&cli.BoolFlag{Name: "keep-ca", Usage: "keep the mesh's CA key on this hub, which then signs on its own: whoever takes the hub has the mesh"},
			&cli.IntFlag{Name: "max-agents", Usage: "take at most `N` endpoints into the directory", Value: Limits{}.withDefaults().Agents},
			&cli.IntFlag{Name: "max-sessions", Usage: "carry at most `N` connections between agents at a time", Value: Limits{}.withDefaults().Carriers},
			&cli.StringFlag{Name: "metrics", Usage: "serve /metrics and /healthz on a loopback `IP:PORT`"},
		},
		Action: func(c *cli.Context) error { return runCommand(c, version) },
	}
}

func runCommand(c *cli.Context, version string) error {
	data := c.String("data")
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		data = filepath.Join(home, ".ztm")
	}
	h, err := New(Config{
		Data:    data,
		Listen:  withHost(c.String("listen")),
		Names:   c.StringSlice("names"),
		Permit:  c.String("permit"),
		KeepCA:  c.Bool("keep-ca"),
		Metrics: c.String("metrics"),
		Limits:  Limits{Agents: c.Int("max-agents"), Carriers: c.Int("max-sessions")},
		Version: version,
		Log:     slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)),
		Started: func(s Started) { greet(c.App.Writer, s) },
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal finds no handler any more and ends the process at once. Nothing is lost by that.
	defer context.AfterFunc(ctx, stop)()
	return h.Run(ctx)
}

// withHost makes an address of a bare port.
func withHost(listen string) string {
	for _, c := range listen {
		if c < '0' || c > '9' {
			return listen
		}
	}
	return ":" + listen
}

// greet says, after the first start, where the permit is and what it is for.
func greet(w io.Writer, s Started) {
	if s.Permit == "" {
		return
	}
	path, err := filepath.Abs(s.Permit)
	if err != nil {
		path = s.Permit
	}
	file := filepath.Base(path)
	fmt.Fprintf(w, `A permit file is saved to %s

To join the mesh on an endpoint:
  1. Send the file '%s' to the endpoint
  2. Execute the following command on the endpoint:

     ztm join my-mesh --as my-first-ep --permit %s

Whoever has the file is root of the mesh. Keep it, and keep it secret: the hub has no copy.
`, path, file, file)
}
