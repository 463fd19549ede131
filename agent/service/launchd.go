package service

import (
	"fmt"
	"path"
	"strings"

	"ztm/tunnel/shellwords"
)

// launchd installs the service as a daemon, or as an agent of the user who is logged in.
func launchd(s Spec) Plan {
	label := "io.ztm." + s.Role
	file, log := path.Join("/Library/LaunchDaemons", label+".plist"), path.Join("/var/log", s.Name()+".log")
	// The domain of a user has the number of the user, which the shell knows.
	domain := "system"
	if s.Own {
		file, log = path.Join(s.Home, "Library/LaunchAgents", label+".plist"), path.Join(s.Home, "Library/Logs", s.Name()+".log")
		domain = "gui/$(id -u)"
	}
	launchctl := func(line string) []string { return []string{"sh", "-c", "launchctl " + line} }
	target := domain + "/" + label
	return Plan{
		System: "launchd", Name: label, Dirs: []string{s.Data},
		Files:  []File{{Path: file, Mode: 0o644, Text: plist(s, label, log)}},
		Start:  []Command{try(launchctl("bootout " + target)...), run(launchctl("enable " + target)...), run(launchctl("bootstrap " + domain + " " + shellwords.POSIX(file))...)},
		Stop:   []Command{try(launchctl("bootout " + target)...), try(launchctl("disable " + target)...)},
		Status: run(launchctl("print " + target + " | grep -q 'state = running'")...),
		Hint:   log,
	}
}

func plist(s Spec, label, log string) string {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
`)
	text := func(key, value string) {
		fmt.Fprintf(&b, "\t<key>%s</key>\n\t<string>%s</string>\n", key, xmlText(value))
	}
	text("Label", label)
	b.WriteString("\t<key>ProgramArguments</key>\n\t<array>\n")
	for _, a := range s.Command() {
		fmt.Fprintf(&b, "\t\t<string>%s</string>\n", xmlText(a))
	}
	b.WriteString("\t</array>\n\t<key>RunAtLoad</key>\n\t<true/>\n\t<key>KeepAlive</key>\n\t<true/>\n\t<key>ThrottleInterval</key>\n\t<integer>5</integer>\n")
	b.WriteString("\t<key>SoftResourceLimits</key>\n\t<dict>\n\t\t<key>NumberOfFiles</key>\n\t\t<integer>65536</integer>\n\t</dict>\n")
	if s.Account != "" && !s.Own {
		text("UserName", s.Account)
	}
	text("StandardOutPath", log)
	text("StandardErrorPath", log)
	b.WriteString("</dict>\n</plist>\n")
	return b.String()
}
