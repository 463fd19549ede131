package hub

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/hub/shared"
	"ztm/hub/state"
	"ztm/store/backup"
	"ztm/tunnel/shellwords"
)

// Command returns `ztm run hub`. version is the version that the hub reports; wrong marks an error
// as wrong usage.
func Command(version string, wrong func(error) error) *cli.Command {
	return &cli.Command{
		Name:  "hub",
		Usage: "run a hub in the foreground",
		Description: `The process of a mesh with a public address. The first start makes the mesh and writes its root permit, the
file that makes a device root. Later starts keep --names, --listen, --peers, --zone and --weight.

Another hub of the same mesh has a permit of its own. It makes its key (--identity), an endpoint of root answers with a
permit (ztm invite --hub), and it starts with that. Hubs that know of each other serve as one: each of them may fail.

Examples:
  ztm run hub --names hub.example.com:8888 --permit root.json
  ztm run hub --data /var/lib/ztm --listen 443 --metrics 127.0.0.1:9100
  ztm run hub --identity hub2.pub
  ztm run hub --permit hub2.json --names hub2.example.com:8888`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "data", Aliases: []string{"d"}, Usage: "keep the state in `DIR`", EnvVars: []string{"ZTM_DATA"}, DefaultText: "~/.ztm"},
			&cli.StringFlag{Name: "listen", Aliases: []string{"l"}, Usage: "listen on `[IP:]PORT`; kept from then on", DefaultText: "8888 on all addresses"},
			&cli.StringSliceFlag{Name: "names", Aliases: []string{"n"}, Usage: "tell agents to reach this hub at `HOST:PORT`; a new mesh needs one or more"},
			&cli.StringFlag{Name: "permit", Aliases: []string{"p"}, Usage: "write the root permit of a new mesh to `FILE`, or join a mesh with the hub permit there; an existing hub reads a newer permit from it", DefaultText: "root.json in the data directory"},
			&cli.StringFlag{Name: "identity", Aliases: []string{"i"}, Usage: "write the public key of this hub to `FILE`, for ztm invite --hub, and end; - for standard output"},
			&cli.StringSliceFlag{Name: "peers", Usage: "find other hubs of the mesh at `HOST:PORT`; kept from then on", DefaultText: "where the permit says"},
			&cli.StringFlag{Name: "zone", Usage: "say that this hub runs in `ZONE`: agents prefer two hubs of different zones"},
			&cli.IntFlag{Name: "weight", Usage: "take a share `N` of the agents, 1 to 1000", DefaultText: "1"},
			&cli.DurationFlag{Name: "drain", Usage: "at the end, give agents `TIME` to move to another hub; a second signal ends at once", DefaultText: "30s"},
			&cli.BoolFlag{Name: "keep-ca", Usage: "keep the CA key, so that devices can join without a root endpoint; whoever takes over this hub then has the mesh"},
			&cli.IntFlag{Name: "forget-after", Usage: "forget endpoints that were away for `DAYS`; their names are kept for their users for 30 days more", DefaultText: "never"},
			&cli.StringFlag{Name: "store", Usage: "decide names and trust with other hubs in the etcd at `URLS`: https://HOST:PORT, with commas between"},
			&cli.StringFlag{Name: "store-ca", Usage: "trust certificates of etcd that are signed by the CA in `FILE`"},
			&cli.StringFlag{Name: "store-cert", Usage: "show etcd the certificate in `FILE`"},
			&cli.StringFlag{Name: "store-key", Usage: "the key of that certificate is in `FILE`"},
			&cli.StringFlag{Name: "store-user", Usage: "log in to etcd with USER:PASSWORD from `FILE`"},
			&cli.IntFlag{Name: "max-agents", Usage: "list at most `N` endpoints in the directory", DefaultText: "10000, fewer where memory is scarce"},
			&cli.IntFlag{Name: "max-sessions", Usage: "relay at most `N` connections at a time", DefaultText: "20000, fewer where memory is scarce"},
			&cli.StringFlag{Name: "metrics", Usage: "serve /metrics and /healthz on loopback address `IP:PORT`"},
			&cli.StringFlag{Name: "log-level", Value: "info", Usage: "log from `LEVEL` on: debug, info, warn or error"},
		},
		Action: func(c *cli.Context) error { return runCommand(c, version, wrong) },
	}
}

// Backup is the hub's database, for package backup.
func Backup() backup.Kind { return state.Backup() }

// maxForgetDays is ten years.
const maxForgetDays = 3650

func runCommand(c *cli.Context, version string, wrong func(error) error) error {
	if c.Args().Present() {
		return wrong(fmt.Errorf("unexpected argument %q", c.Args().First()))
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return wrong(fmt.Errorf("log level %q: want debug, info, warn or error", c.String("log-level")))
	}
	for _, name := range []string{"max-agents", "max-sessions", "weight"} {
		if c.IsSet(name) && c.Int(name) < 1 {
			return wrong(fmt.Errorf("--%s %d: want at least 1", name, c.Int(name)))
		}
	}
	if c.IsSet("forget-after") && (c.Int("forget-after") < 1 || c.Int("forget-after") > maxForgetDays) {
		return wrong(fmt.Errorf("--forget-after %d: want 1 to %d days", c.Int("forget-after"), maxForgetDays))
	}
	data := c.String("data")
	if data == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		data = filepath.Join(home, ".ztm")
	}
	if to := c.String("identity"); to != "" {
		return state.WriteIdentity(c.App.Writer, data, to)
	}
	h, err := New(Config{
		Data:        data,
		Peers:       c.StringSlice("peers"),
		Zone:        c.String("zone"),
		Weight:      c.Int("weight"),
		Drain:       c.Duration("drain"),
		Listen:      withHost(c.String("listen")),
		Names:       c.StringSlice("names"),
		Permit:      c.String("permit"),
		KeepCA:      c.Bool("keep-ca"),
		Metrics:     c.String("metrics"),
		Store:       storeOf(c),
		ForgetAfter: time.Duration(c.Int("forget-after")) * 24 * time.Hour,
		Limits:      Limits{Agents: c.Int("max-agents"), Paths: c.Int("max-sessions")},
		Version:     version,
		Log:         slog.New(slog.NewTextHandler(c.App.ErrWriter, &slog.HandlerOptions{Level: level})),
		Started:     func(s Started) { tell(c.App.Writer, s) },
	})
	if err != nil {
		return wrong(err)
	}
	// Nearly all memory of a hub belongs to idle agents. Garbage of half that size is enough.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	if err = h.Run(c.Context); errors.Is(err, state.ErrNoNames) {
		return wrong(fmt.Errorf("%w: --names HOST:PORT", err))
	}
	return state.NeedsPlace(data, err)
}

// storeOf returns what the command line says of a store.
func storeOf(c *cli.Context) shared.Store {
	s := shared.Store{CA: c.String("store-ca"), Cert: c.String("store-cert"), Key: c.String("store-key"), User: c.String("store-user")}
	if urls := c.String("store"); urls != "" {
		s.Endpoints = strings.Split(urls, ",")
	}
	return s
}

// withHost turns a bare port into an address: that port on all addresses.
func withHost(listen string) string {
	if listen == "" {
		return "" // as it was
	}
	for _, c := range listen {
		if c < '0' || c > '9' {
			return listen
		}
	}
	return ":" + listen
}

// tell explains, after the first start, where the permit is and how to use it.
func tell(w io.Writer, s Started) {
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
`, path, file, shellwords.Here(file))
}
