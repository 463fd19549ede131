package service

import (
	"fmt"
	"path"

	"ztm/tunnel/shellwords"
)

// termux installs the service on Android with termux-services, which is runit. The app Termux:Boot
// starts it. Android stops background processes unless a wake lock is held.
func termux(s Spec) Plan {
	dir := path.Join(s.Prefix, "var/service", s.Name())
	sh := path.Join(s.Prefix, "bin/sh")
	runScript := fmt.Sprintf("#!%s\nexec 2>&1\nexec %s\n", sh, shellwords.POSIX(s.Command()...))
	logScript := fmt.Sprintf("#!%s\nmkdir -p %s\nexec svlogd -tt %[2]s\n", sh, shellwords.POSIX(path.Join(s.Prefix, "var/log/sv", s.Name())))
	boot := fmt.Sprintf("#!%s\n# Run by the app Termux:Boot.\ntermux-wake-lock\n. %s\n", sh, shellwords.POSIX(path.Join(s.Prefix, "etc/profile.d/start-services.sh")))
	service := []string{path.Join(s.Prefix, "bin/sv")}
	return Plan{
		System: "termux", Name: s.Name(), Dirs: []string{s.Data},
		Files: []File{
			{Path: path.Join(dir, "run"), Mode: 0o700, Text: runScript},
			{Path: path.Join(dir, "log/run"), Mode: 0o700, Text: logScript},
			{Path: path.Join(s.Home, ".termux/boot", s.Name()), Mode: 0o700, Text: boot},
		},
		Start:  []Command{try("termux-wake-lock"), run("sv-enable", s.Name()), run(append(service, "restart", dir)...)},
		Stop:   []Command{try("sv-disable", s.Name()), try(append(service, "down", dir)...)},
		Status: run("sh", "-c", shellwords.POSIX(append(service, "status", dir)...)+" | grep -q ^run:"),
		Hint:   path.Join(s.Prefix, "var/log/sv", s.Name(), "current"),
	}
}
