package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/agent/beside"
	"ztm/agent/local"
	"ztm/apps"
	"ztm/tunnel"
)

// Command is `ztm run agent`. c has what the program knows by itself: Version, Built and Apps.
// dataDir is the data directory where
// --data is not given.
func Command(c Config, dataDir func(*cli.Context) (string, error), companions ...beside.Companion) *cli.Command {
	command := &cli.Command{
		Name:  "agent",
		Usage: "run an agent in the foreground",
		Description: `The agent keeps this device in the meshes it has joined. It opens no port and dials out to the hub.

Examples:
  ztm run agent
  ztm run agent --data /etc/ztm --proxy http://proxy.example:3128
  ztm run agent --join demo --join-as box-1 --permit permit.json    # containers: joins at the first start`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Aliases: []string{"d"}, Usage: "data directory `DIR` (default: ~/.ztm)"},
			&cli.StringFlag{Name: "proxy", Usage: "reach hubs through `URL`: http://host:port or socks5://host:port"},
			&cli.StringFlag{Name: "join", Usage: "join `MESH` at the first start"},
			&cli.StringFlag{Name: "join-as", Usage: "join as `NAME`"},
			&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Usage: "join with the permit in `FILE`"},
			&cli.IntFlag{Name: "hubs", Usage: "keep sessions with `COUNT` hubs of each mesh, 1 or 2 (default: 2, or 1 where memory is scarce)"},
			&cli.DurationFlag{Name: "drain", Usage: "at the end, give running flows `TIME` to end; a second signal ends at once", DefaultText: "0s"},
			&cli.StringFlag{Name: "metrics", Usage: "serve /metrics and /healthz on loopback address `IP:PORT`"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "log from `LEVEL` on: debug, info, warn or error"},
		},
		Action: func(x *cli.Context) error { return runCommand(x, c, dataDir, companions) },
	}
	command.Flags = append(command.Flags, beside.Flags(companions)...)
	return command
}

func runCommand(x *cli.Context, c Config, dataDir func(*cli.Context) (string, error), companions []beside.Companion) error {
	if x.Args().Present() {
		return &apps.UsageError{Err: fmt.Errorf("unexpected argument %q", x.Args().First())}
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(x.String("log-level"))); err != nil {
		return &apps.UsageError{Err: fmt.Errorf("log level %q: want debug, info, warn or error", x.String("log-level"))}
	}
	proxy, err := proxyOf(x.String("proxy"))
	if err != nil {
		return err
	}
	if err := local.CheckCounters(x.String("metrics")); err != nil {
		return &apps.UsageError{Err: err}
	}
	if x.Duration("drain") < 0 {
		return &apps.UsageError{Err: fmt.Errorf("drain time %v is negative", x.Duration("drain"))}
	}
	if n := x.Int("hubs"); x.IsSet("hubs") && n != 1 && n != 2 {
		return &apps.UsageError{Err: fmt.Errorf("--hubs %d: want 1 or 2", n)}
	}
	join := &beside.StartJoin{Mesh: x.String("join"), Name: x.String("join-as"), Permit: x.String("permit")}
	if err := join.Check(); err != nil {
		return &apps.UsageError{Err: err}
	}
	data, err := dataDir(x)
	if err != nil {
		return err
	}
	c.Data, c.Proxy, c.Metrics, c.Hubs = data, proxy, x.String("metrics"), x.Int("hubs")
	c.Log = slog.New(slog.NewTextHandler(x.App.ErrWriter, &slog.HandlerOptions{Level: level}))
	join.Log = c.Log
	a, err := New(c)
	if err != nil {
		return err
	}
	others, err := beside.Start(companions, x, join.Mesh, c.Log, beside.Agent{API: a.routes(), Unjoined: join.Err})
	if err != nil {
		return errors.Join(err, a.Close())
	}
	join.Patient = len(others) > 0 && join.Permit != "-" // others say why it has not joined
	work := beside.Drain(func(ctx context.Context) error { return join.Run(ctx, a) }, a, x.Duration("drain"))
	return beside.With(work, others)(x.Context)
}

// proxyOf returns the proxy of the option, or else that of the environment. It refuses a password
// in the option, because every account of the machine can read command lines.
func proxyOf(option string) (*tunnel.Proxy, error) {
	if option == "" {
		return tunnel.ProxyFromEnvironment()
	}
	if strings.Contains(option, "@") {
		return nil, &apps.UsageError{Err: &apps.HintError{Err: errors.New("--proxy has a user and a password, which every account of this machine could read"),
			Hint: "set HTTPS_PROXY in the environment, or write HTTPS_PROXY=... into the file 'environment' in the data directory, mode 0600"}}
	}
	p, err := tunnel.ParseProxy(option)
	if err != nil {
		return nil, &apps.UsageError{Err: err}
	}
	return p, nil
}
