package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"ztm/apps"
)

// Host is what the commands need from their program.
type Host struct {
	Console apps.Console
	Getenv  func(string) string
	Data    func() (string, error) // the data directory if --data is not given; valid while a command runs
	Roles   []*cli.Command         // those of `ztm run`, whose options the services take

	// Runs reports whether the hub or the agent runs with a data directory, as a service or not.
	Runs func(role, data string) bool
}

// Commands are `ztm start`, `ztm stop` and `ztm status`.
func Commands(h Host) []*cli.Command {
	start := &cli.Command{Name: "start", Usage: "install the hub or the agent as a service, and start it",
		Description: "The service starts at every boot. It takes the options of `ztm run`. --print shows the files and commands, and\n" +
			"changes nothing.\n\n" +
			"Example:\n  ztm start hub --names hub.example.com:8888 --permit root.json\n  ztm start agent --data /etc/ztm\n  ztm start agent --user"}
	stop := &cli.Command{Name: "stop", Usage: "stop the service of the hub or the agent, and do not start it at boot",
		Description: "--uninstall also removes the service. The data stays.\n\nExample:\n  ztm stop agent\n  ztm stop hub --uninstall"}
	status := &cli.Command{Name: "status", Usage: "show whether the hub or the agent runs as a service",
		Description: "The exit status is 1 if it does not run, as a service or in the foreground.\n\nExample:\n  ztm status agent"}
	for _, role := range h.Roles {
		start.Subcommands = append(start.Subcommands, h.start(role))
		stop.Subcommands = append(stop.Subcommands, h.stop(role))
		status.Subcommands = append(status.Subcommands, h.status(role))
	}
	return []*cli.Command{start, stop, status}
}

// common returns the options of start, stop and status.
func common() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "user", Usage: "use a service of this user, which needs no root"},
		&cli.StringFlag{Name: "system", Usage: "use service manager `NAME`: " + names(), DefaultText: "the one of this machine"},
	}
}

func (h Host) start(role *cli.Command) *cli.Command {
	return &cli.Command{
		Name: role.Name, Category: apps.Device, Usage: "install the " + role.Name + " as a service and start it",
		Description: "Example:\n  ztm start " + role.Name + "\n  ztm start " + role.Name + " --print",
		Flags: append(slices.Clone(role.Flags), append(common(),
			&cli.StringFlag{Name: "run-as", Usage: "run the service as `ACCOUNT`, which must exist"},
			&cli.BoolFlag{Name: "print", Usage: "print the files and commands, and change nothing"})...),
		Action: func(x *cli.Context) error {
			sys, err := h.system(x)
			if err != nil {
				return err
			}
			s, err := h.spec(x, role)
			if err != nil {
				return err
			}
			permit := s.shutIn(sys, x.IsSet("data"))
			if err := s.check(sys); err != nil {
				return err
			}
			p := sys.Plan(s)
			if x.Bool("print") {
				return p.Print(h.Console.Stdout())
			}
			if err := h.allowed(x, sys, "start", role.Name); err != nil {
				return err
			}
			return h.install(x.Context, s, p, permit)
		},
	}
}

func (h Host) stop(role *cli.Command) *cli.Command {
	return &cli.Command{
		Name: role.Name, Category: apps.Device, Usage: "stop the service of the " + role.Name,
		Description: "Example:\n  ztm stop " + role.Name,
		Flags:       append(common(), &cli.BoolFlag{Name: "uninstall", Usage: "remove the service; the data stays"}),
		Action: func(x *cli.Context) error {
			sys, err := h.system(x)
			if err != nil {
				return err
			}
			if err := h.allowed(x, sys, "stop", role.Name); err != nil {
				return err
			}
			s, err := h.spec(x, &cli.Command{Name: role.Name})
			if err != nil {
				return err
			}
			if x.Bool("uninstall") {
				return sys.Plan(s).Uninstall(x.Context)
			}
			return sys.Plan(s).Halt(x.Context)
		},
	}
}

func (h Host) status(role *cli.Command) *cli.Command {
	return &cli.Command{
		Name: role.Name, Category: apps.Device, Usage: "show whether the " + role.Name + " runs as a service",
		Description: "Example:\n  ztm status " + role.Name,
		Flags:       common(),
		Action: func(x *cli.Context) error {
			sys, none := h.system(x)
			s, err := h.spec(x, &cli.Command{Name: role.Name})
			if err != nil {
				return err
			}
			st := State{Name: s.Name(), State: foreground, Data: apps.Bytes(s.Data)}
			if none == nil {
				st = stateOf(x.Context, sys.Plan(s))
				st.Data = apps.Bytes(s.Data)
			}
			if st.State != running && h.Runs(role.Name, s.Data) {
				st.State = foreground
			} else if none != nil {
				return none
			}
			return h.show(st)
		},
	}
}

// State is what `ztm status` prints.
type State struct {
	Name   string     `json:"name"`
	System string     `json:"system"`
	State  string     `json:"state"` // "running", "stopped", "not installed", "foreground"
	File   apps.Bytes `json:"file,omitempty"`
	Log    string     `json:"log,omitempty"`
	Data   apps.Bytes `json:"data"`
}

const (
	running    = "running"
	foreground = "foreground" // it runs, but not as a service
)

// stateOf asks the service manager.
func stateOf(ctx context.Context, p Plan) State {
	st := State{Name: p.Name, System: p.System, State: "stopped", Log: p.Hint}
	if len(p.Files) > 0 {
		st.File = apps.Bytes(p.Files[0].Path)
	}
	switch {
	case !p.Installed():
		st.State = "not installed"
	case p.Running(ctx):
		st.State = running
	}
	return st
}

func (h Host) show(st State) error {
	state := st.State
	if state == foreground { // the file and the log are those of a service
		state, st.File, st.Log = state+": it runs with this data directory, and is not a service", "", ""
	}
	t := &apps.Table{}
	for _, row := range [][]string{{"Service:", st.Name}, {"Manager:", st.System}, {"State:", state},
		{"Data:", st.Data.String()}, {"File:", st.File.String()}, {"Log:", st.Log}} {
		if row[1] != "" {
			t.Add(row...)
		}
	}
	err := h.Console.Print(st, t)
	if err == nil && st.State != running && st.State != foreground {
		return &apps.ExitError{Status: 1}
	}
	return err
}

// system returns the service manager that the options choose.
func (h Host) system(x *cli.Context) (System, error) {
	name := x.String("system")
	if name == "" {
		if name = detect(h.Getenv); name == "" {
			return System{}, &apps.HintError{Err: errors.New("no known service manager runs here"),
				Hint: "run it in the foreground: ztm run " + x.Command.Name}
		}
	}
	sys, err := SystemNamed(name)
	if err != nil {
		return sys, &apps.UsageError{Err: err}
	}
	if x.Bool("user") && !sys.Own {
		return sys, fmt.Errorf("%s has no services of users: leave out --user", sys.Name)
	}
	return sys, nil
}

// allowed returns an error if the command would fail half way for lack of rights.
func (h Host) allowed(x *cli.Context, sys System, verb, role string) error {
	if x.Bool("user") || sys.Name == "termux" || root() {
		return nil
	}
	return forRoot(sys, verb, role)
}

// forRoot returns the error, with a hint, for a user who is not root.
func forRoot(sys System, verb, role string) error {
	hint := "use: " + asRoot + "ztm " + verb + " " + role + " ..."
	if asRoot == "" {
		hint = "run it in a window that was opened as administrator"
	}
	if sys.Own {
		hint += ", or: ztm " + verb + " " + role + " --user ... for a service of your own"
	}
	return &apps.HintError{Err: errors.New("only root can manage services of the machine"), Hint: hint}
}

// spec returns the service that the command line describes.
func (h Host) spec(x *cli.Context, role *cli.Command) (Spec, error) {
	exe, err := os.Executable()
	if err != nil {
		return Spec{}, err
	}
	s := Spec{Role: role.Name, Exe: exe, Own: x.Bool("user"), Account: x.String("run-as"), Home: h.Getenv("HOME"), Prefix: h.Getenv("PREFIX")}
	data := x.String("data")
	if data == "" {
		if data, err = h.Data(); err != nil {
			return Spec{}, err
		}
	}
	if s.Data, err = filepath.Abs(data); err != nil {
		return Spec{}, err
	}
	for _, f := range role.Flags {
		name := f.Names()[0]
		if name == "data" {
			s.Options = append(s.Options, "--data="+s.Data)
			continue
		}
		if !x.IsSet(name) {
			continue
		}
		for _, v := range values(x, name) {
			if v, err = option(f, name, v); err != nil {
				return Spec{}, err
			}
			if name == "permit" && role.Name == "hub" {
				s.Writes = append(s.Writes, filepath.Dir(v))
			}
			s.Options = append(s.Options, "--"+name+"="+v)
		}
	}
	return s, nil
}

func values(x *cli.Context, name string) []string {
	if list := x.StringSlice(name); len(list) > 0 {
		return list
	}
	return []string{fmt.Sprint(x.Value(name))}
}

// option returns the value in the form that a service needs, which runs in another directory and
// without standard input. It refuses a password, because every account can read the file of a
// service.
func option(f cli.Flag, name, value string) (string, error) {
	if strings.Contains(value, "@") && (name == "proxy" || strings.Contains(value, "://")) {
		return "", &apps.HintError{Err: fmt.Errorf("--%s has a user and a password, which everybody could read in the file of the service", name),
			Hint: "write HTTPS_PROXY=... into the file 'environment' in the data directory, mode 0600, and leave out --" + name}
	}
	d, ok := f.(cli.DocGenerationFlag)
	if !ok || !strings.Contains(d.GetUsage(), "`FILE`") && !strings.Contains(d.GetUsage(), "`DIR`") {
		return value, nil
	}
	if value == "-" {
		return "", fmt.Errorf("--%s: a service has no standard input: name a file", name)
	}
	return filepath.Abs(value)
}

// check refuses what cannot be written into a service file.
func (s Spec) check(sys System) error {
	for _, w := range append(s.Command(), s.Data, s.Account) {
		if strings.ContainsAny(w, "\n\r\x00") {
			return fmt.Errorf("%q cannot be in the file of a service", w)
		}
	}
	if s.Account != "" && (s.Own || sys.Name == "termux") {
		return errors.New("a service of a user runs as that user: leave out --run-as")
	}
	return nil
}

// install carries out the plan. permit, if not empty, is the destination of the permit of a new
// mesh.
func (h Host) install(ctx context.Context, s Spec, p Plan, permit string) error {
	var owner func(string) error
	if s.Account != "" {
		var err error
		if owner, err = give(s.Account); err != nil {
			return err
		}
	}
	moved := false
	if permit != "" {
		var err error
		if moved, err = checkPermit(s.Data, permit); err != nil {
			return err
		}
	}
	if err := p.Install(ctx, owner); err != nil {
		return err
	}
	if permit != "" {
		if err := h.fetch(ctx, filepath.Join(s.Data, "root.json"), permit, moved); err != nil {
			return err
		}
	}
	fmt.Fprintf(h.Console.Stderr(), "%s runs, and will at every boot; its log: %s\n", p.Name, p.Hint)
	return nil
}

// fetch waits for the permit of a new mesh, or completes the move that an earlier start began.
func (h Host) fetch(ctx context.Context, from, to string, moved bool) error {
	if moved {
		if err := movePermit(from, to); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err := fetchPermit(ctx, from, to); err != nil {
		return err
	}
	fmt.Fprintf(h.Console.Stderr(), "the root permit is in %s\n", to)
	return nil
}
