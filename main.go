// Command ztm is a zero-trust mesh in one binary: the hub, the agent, and the command line that talks to the agent.
// The name under which it is called picks one: ztm-hub is `ztm run hub`, ztm-agent is `ztm run agent`.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"ztm/agent/api"
	"ztm/agent/console"
	"ztm/agent/console/mesh"
)

// version is set when a release is linked: -ldflags "-X main.version=v1.2.3".
var version string

func main() {
	// The parser is never asked for help. Its own printer is replaced so that its templates are not there to be run.
	cli.HelpPrinter = func(w io.Writer, _ string, _ any) { fmt.Fprintln(w, "see: ztm help") }
	cli.HelpPrinterCustom = func(w io.Writer, _ string, _ any, _ map[string]any) { fmt.Fprintln(w, "see: ztm help") }
	os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the program: the first of args is its name. It returns the exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // the second signal kills

	c := console.New(console.Config{
		Stdin: stdin, Stdout: stdout, Stderr: stderr, Getenv: os.Getenv, Version: about(),
	})
	commands := append(mesh.Commands(c), roles()...)
	return c.Run(ctx, words(args), commands)
}

// words returns the command line without the program's name, which may stand for the first words.
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

// applet is the base name of the program without .exe. Where file names have that ending, case means nothing.
func applet(program string) string {
	name := filepath.Base(program)
	if ext := filepath.Ext(name); strings.EqualFold(ext, ".exe") {
		return strings.ToLower(strings.TrimSuffix(name, ext))
	}
	return name
}

// roles are the commands that become the hub or the agent.
func roles() []*cli.Command {
	return []*cli.Command{{
		Name: "run", Usage: "run the hub or the agent in the foreground",
		Description: "Example:\n  ztm run hub --names hub.example.com:8888 --permit root.json\n  ztm run agent",
		Subcommands: []*cli.Command{},
	}}
}

// about says what this binary is: from the linker if it knows, else from what the go command noted down.
func about() api.Version {
	v := api.Version{Tag: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Features: []string{}}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v.Tag == "" {
		v.Tag = info.Main.Version
	}
	modified := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				modified = " (modified)"
			}
		}
	}
	if v.Commit != "" {
		v.Commit += modified
	}
	return v
}
