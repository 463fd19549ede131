// Package cli is the command `ztm console`: it asks the agent to let a browser of this machine in,
// and opens that browser.
package cli

import (
	"fmt"
	"net/http"
	"os"
	"runtime"

	"github.com/urfave/cli/v2"

	"ztm/agent/api"
	"ztm/agent/console"
	"ztm/apps"
)

// Command returns the command. getenv is the environment, which says whether there is a screen.
func Command(c *console.Console, getenv func(string) string) *cli.Command {
	return &cli.Command{
		Name: "console", Category: apps.Device, Usage: "show the mesh in a browser",
		Description: "The agent opens a port of 127.0.0.1, and the browser opens a page of it that is signed in. The printed address is good\n" +
			"once, within a minute. The port is closed again after 12 hours without use, and by --lock, which ends what the pages\n" +
			"have opened. The page can do what you can do with ztm, and no more. From another machine, forward the port first:\n" +
			"ssh -L 7777:127.0.0.1:7777 HOST, and open the printed address there.\n\n" +
			"Example:\n  ztm console\n  ztm console --read-only --no-open\n  ztm console --lock",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "read-only", Usage: "the page only looks: it changes nothing and opens nothing"},
			&cli.BoolFlag{Name: "lock", Usage: "end all pages and close the port"},
			&cli.BoolFlag{Name: "no-open", Usage: "print the address alone, and open no browser"},
			&cli.IntFlag{Name: "port", Usage: "listen on `PORT` of 127.0.0.1", DefaultText: "7777"},
		},
		Action: func(x *cli.Context) error {
			if err := apps.NoArguments(x); err != nil {
				return err
			}
			if x.Bool("lock") {
				if x.Bool("read-only") || x.IsSet("port") {
					return apps.Usagef("--lock takes no other option")
				}
				return c.Do(x.Context, http.MethodDelete, api.ConsolePath, nil, nil)
			}
			return open(x, c, getenv)
		},
	}
}

func open(x *cli.Context, c *console.Console, getenv func(string) string) error {
	var s api.ConsoleState
	if err := c.Do(x.Context, http.MethodPost, api.ConsolePath, api.Console{ReadOnly: x.Bool("read-only"), Port: x.Int("port")}, &s); err != nil {
		return err
	}
	if err := c.Print(s, &apps.Table{Rows: [][]string{{s.URL}}}); err != nil {
		return err
	}
	switch {
	case x.Bool("no-open"):
		return nil
	case !hasScreen(runtime.GOOS, getenv):
		fmt.Fprintf(c.Stderr(), "there is no screen here: forward the port from where there is one, and open the address there:\n  ssh -L %d:127.0.0.1:%d HOST\n", s.Port, s.Port)
		return nil
	}
	place, err := redirection(home(getenv), s.URL)
	if err == nil {
		defer os.Remove(place)
		err = browse(x.Context, runtime.GOOS, place)
	}
	if err != nil {
		c.Warn("no browser could be opened (%v): open the address yourself", err)
		return nil
	}
	waitUntilUsed(x.Context, c)
	return nil
}
