package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"time"

	"ztm/agent/api"
	"ztm/agent/console"
)

// hasScreen reports whether a browser that is opened here is seen by who typed the command.
func hasScreen(system string, getenv func(string) string) bool {
	if getenv("SSH_CONNECTION") != "" || getenv("SSH_TTY") != "" {
		return false
	}
	switch system {
	case "windows", "darwin", "android":
		return true
	}
	return getenv("DISPLAY") != "" || getenv("WAYLAND_DISPLAY") != ""
}

// home is where a browser in a sandbox of its own can read a file: not in /tmp, nor in a hidden
// directory. Elsewhere the directory of temporary files is the user's own.
func home(getenv func(string) string) string {
	if dir := getenv("HOME"); dir != "" && runtime.GOOS == "linux" {
		return dir
	}
	return os.TempDir()
}

// redirection writes a private file that leads to the address. The address itself, with its code,
// would be in the list of processes, where all users of the machine see it.
func redirection(dir, address string) (string, error) {
	f, err := os.CreateTemp(dir, "ztm-console-*.html")
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintf(f, "<!doctype html><meta charset=utf-8><meta name=referrer content=no-referrer><meta http-equiv=refresh content=\"0;url=%s\"><title>ztm</title>\n", address)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return f.Name(), err
}

// browse opens a file in the browser of the user.
func browse(ctx context.Context, system, place string) error {
	argv := []string{"xdg-open", place}
	switch system {
	case "windows":
		argv = []string{"rundll32.exe", "url.dll,FileProtocolHandler", place}
	case "darwin":
		argv = []string{"/usr/bin/open", place}
	case "android":
		argv = []string{"termux-open", place}
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...).Run()
}

// Spans of [waitUntilUsed].
const (
	codeLife = time.Minute
	askEvery = 250 * time.Millisecond
)

// waitUntilUsed returns when the code was used or is too old.
func waitUntilUsed(ctx context.Context, c *console.Console) {
	ctx, cancel := context.WithTimeout(ctx, codeLife)
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			var s api.ConsoleState
			if c.Do(ctx, http.MethodGet, api.ConsolePath, nil, &s) != nil || s.Waiting == 0 {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
