// Command ztm is a zero-trust mesh in one binary: the hub, the agent, and the command line that
// talks to the agent. The name under which it is called picks one: ztm-hub is `ztm run hub`,
// ztm-agent is `ztm run agent`.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"ztm/agent"
	"ztm/agent/api"
	auditcli "ztm/agent/audit/cli"
	"ztm/agent/beside"
	"ztm/agent/console"
	"ztm/agent/console/mesh"
	"ztm/agent/daemon"
	"ztm/agent/feature"
	"ztm/agent/kube"
	noticecli "ztm/agent/notice/cli"
	policycli "ztm/agent/policy/cli"
	policyfile "ztm/agent/policy/file/cli"
	"ztm/agent/service"
	"ztm/agent/state"
	browser "ztm/agent/web"
	webcli "ztm/agent/web/cli"
	"ztm/apps"
	"ztm/apps/builtin"
	"ztm/apps/external"
	"ztm/hub"
	"ztm/store"
	"ztm/store/backup"
	backupcli "ztm/store/backup/cli"
	"ztm/tunnel/memory"
	"ztm/tunnel/resolver"
)

// A release sets these: -ldflags "-X main.version=v1.2.3 -X main.commit=HASH -X
// main.built=2026-01-31T12:00:00Z". Values that are empty come from the build information of the go
// command.
var version, commit, built string

func main() {
	if builtin.Apps {
		if status, is := external.Applet(os.Args, os.Stdin); is {
			os.Exit(status)
		}
	}
	// The parser never prints help. Replacing its printers keeps their templates out of the binary.
	cli.HelpPrinter = func(w io.Writer, _ string, _ any) { fmt.Fprintln(w, "see: ztm help") }
	cli.HelpPrinterCustom = func(w io.Writer, _ string, _ any, _ map[string]any) { fmt.Fprintln(w, "see: ztm help") }
	if root := os.DirFS("/"); resolver.Needed(root, os.Getenv) {
		net.DefaultResolver = resolver.New(resolver.Servers(root, os.Getenv))
	}
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: the first of args is its name. It returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	line := words(args)
	ctx, stop := daemon.Signals(daemon.IsRole(line))
	defer stop()

	return daemon.Main(ctx, line, stderr, func(ctx context.Context, stderr io.Writer) int {
		c := console.New(console.Config{
			Stdin: stdin, Stdout: stdout, Stderr: stderr, Getenv: os.Getenv, Version: about(), Missing: feature.Missing,
		})
		return c.Run(ctx, line, commands(c))
	})
}

// commands are all commands of this binary but those of the console itself.
func commands(c *console.Console) []*cli.Command {
	var more apps.Commands
	for _, k := range kinds() {
		if k.Commands != nil {
			more.Add(k.Commands(c))
		}
	}
	more.Add(policycli.Views(c))
	c.Know(more)
	run := roles(c)
	out := append(mesh.Commands(c, more), more.Top...)
	out = append(out, auditcli.Command(c), noticecli.Command(c), run)
	out = append(out, policies(c)...)
	if feature.Backup {
		out = append(out, backups(c)...)
	}
	if feature.Console {
		out = append(out, webcli.Command(c, os.Getenv))
	}
	return append(out, service.Commands(service.Host{Console: c, Getenv: os.Getenv, Data: c.DataDir, Roles: run.Subcommands,
		Runs: func(role, data string) bool { return store.InUse(filepath.Join(data, role+".db")) }})...)
}

// policies are the commands of the policy, and of files of it.
func policies(c *console.Console) []*cli.Command {
	all := policycli.Commands(c)
	for _, command := range all {
		if command.Name == "policy" && feature.YAML {
			command.Subcommands = append(command.Subcommands, policyfile.Commands(c)...)
		}
	}
	return all
}

// words returns the command line without the program's name. The names ztm-hub and ztm-agent stand
// for its first words.
func words(args []string) []string {
	if len(args) == 0 {
		return nil
	}
	switch applet(args[0]) {
	case "ztm-hub":
		return append([]string{"run", "hub"}, args[1:]...)
	case "ztm-agent":
		return append([]string{"run", "agent"}, args[1:]...)
	}
	return args[1:]
}

// applet is the base name of the program in lower case and without .exe, because names on Windows
// ignore case.
func applet(program string) string {
	return strings.TrimSuffix(strings.ToLower(filepath.Base(program)), ".exe")
}

// roles returns the command `ztm run`.
func roles(c *console.Console) *cli.Command {
	dataDir := dataDirOf(c)
	v := about()
	var roles []*cli.Command
	if feature.Hub {
		roles = append(roles, hub.Command(v.Tag, wrongUsage))
	}
	config := agent.Config{Version: v, Built: buildTime(v), Apps: kinds()}
	if feature.Console {
		config.Console = func(h browser.Host) http.Handler { return browser.New(h) }
	}
	var companions []beside.Companion
	if feature.Kubernetes {
		companions = append(companions, kube.Companion(os.Getenv))
	}
	roles = append(roles, agent.Command(config, dataDir, companions...))
	for _, role := range roles {
		role.Before = func(x *cli.Context) error { return settle(x, dataDir) }
		role.Category = apps.Device
	}
	return &cli.Command{
		Name: "run", Usage: "run the hub or the agent in the foreground",
		Description: "Example:\n  ztm run hub --names hub.example.com:8888 --permit root.json\n  ztm run agent",
		Subcommands: roles,
	}
}

// backups are the commands `ztm backup` and `ztm restore`.
func backups(c *console.Console) []*cli.Command {
	kinds := []backup.Kind{state.Backup()}
	if feature.Hub {
		kinds = append(kinds, hub.Backup())
	}
	return backupcli.Commands(kinds, dataDirOf(c), c.Note)
}

// dataDirOf returns what a command takes as its data directory.
func dataDirOf(c *console.Console) func(*cli.Context) (string, error) {
	return func(x *cli.Context) (string, error) {
		if dir := x.String("data"); dir != "" {
			return dir, nil
		}
		return c.DataDir()
	}
}

// settle prepares this process to be the hub or the agent.
func settle(x *cli.Context, dataDir func(*cli.Context) (string, error)) error {
	daemon.Shield()
	memory.Here().Tune(os.Getenv)
	go memory.GiveBack(x.Context) // ends with the program
	data, err := dataDir(x)
	if err != nil {
		return err
	}
	vars, err := daemon.Environment(data)
	if errors.Is(err, fs.ErrPermission) {
		fmt.Fprintln(x.App.ErrWriter, "warning:", err) // an older service file may have had it read by root
		return nil
	}
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		err = errors.Join(err, os.Setenv(name, value))
	}
	return err
}

// wrongUsage marks an error of the hub as wrong usage. The hub does not know the types of the
// command line.
func wrongUsage(err error) error { return &apps.UsageError{Err: err} }

// about describes this binary.
func about() api.Version {
	v := api.Version{
		Tag: version, Commit: commit, Date: built, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Features: feature.Names(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	notes := map[string]string{}
	for _, s := range info.Settings {
		notes[s.Key] = s.Value
	}
	v.Tag = cmp.Or(v.Tag, info.Main.Version)
	v.Date = cmp.Or(v.Date, notes["vcs.time"])
	if v.Commit == "" && notes["vcs.modified"] == "true" {
		notes["vcs.revision"] += " (modified)"
	}
	v.Commit = cmp.Or(v.Commit, notes["vcs.revision"])
	return v
}

// buildTime returns when this binary was built, or zero if that is unknown. A clock that shows an
// earlier time is wrong.
func buildTime(v api.Version) time.Time {
	t, err := time.Parse(time.RFC3339, v.Date)
	if err != nil {
		return time.Time{}
	}
	return t
}
