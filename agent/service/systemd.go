package service

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// The hub needs its port and its directory. The sandbox closes everything else of the machine.
const hubSandbox = `CapabilityBoundingSet=CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
UMask=0077
`

// systemd installs the service as a unit. The agent has no sandbox: terminals are its children, and
// the sandbox would hold for them as well.
func systemd(s Spec) Plan {
	file := path.Join("/etc/systemd/system", s.Name()+".service")
	ctl, log := []string{"systemctl"}, "journalctl -u "+s.Name()
	target := "multi-user.target"
	if s.Own {
		file = path.Join(s.Home, ".config/systemd/user", s.Name()+".service")
		ctl, log = []string{"systemctl", "--user"}, "journalctl --user -u "+s.Name()+"; to run without being logged in: loginctl enable-linger"
		target = "default.target"
	}
	systemctl := func(args ...string) Command { return run(append(slices.Clone(ctl), args...)...) }
	p := Plan{
		System: "systemd", Name: s.Name(),
		Files:  []File{{Path: file, Mode: 0o644, Text: systemdUnit(s, target)}},
		Start:  []Command{systemctl("daemon-reload"), systemctl("enable", s.Name()), systemctl("restart", s.Name())},
		Stop:   []Command{systemctl("disable", "--now", s.Name())},
		Status: systemctl("is-active", "--quiet", s.Name()), Remove: []Command{systemctl("daemon-reload")},
		Hint: log,
	}
	if !s.Dynamic {
		p.Dirs = []string{s.Data}
	}
	return p
}

func systemdUnit(s Spec, target string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[Unit]\nDescription=ztm %s\n", s.Role)
	if !s.Own {
		b.WriteString("Wants=network-online.target\nAfter=network-online.target\n")
	}
	// A device must come back however long its network was down: there is no limit of starts.
	fmt.Fprintf(&b, "StartLimitIntervalSec=0\n\n[Service]\nType=exec\nExecStart=%s\nRestart=always\nRestartSec=5\n", unitLine(s.Command()))
	b.WriteString("LimitNOFILE=65536\n")
	switch {
	case s.Dynamic:
		fmt.Fprintf(&b, "DynamicUser=yes\nStateDirectory=%s\nStateDirectoryMode=0700\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n", path.Base(s.Data))
	case s.Account != "" && !s.Own:
		fmt.Fprintf(&b, "User=%s\n", s.Account)
		if s.Role == "hub" {
			b.WriteString("AmbientCapabilities=CAP_NET_BIND_SERVICE\n")
		}
	}
	if s.Role == "agent" {
		// The kernel may kill a program in a terminal for its memory. That must not stop the agent.
		b.WriteString("OOMPolicy=continue\n")
	}
	if s.Role == "hub" && !s.Own {
		b.WriteString(hubSandbox)
		if !s.Dynamic {
			writes := append([]string{s.Data}, s.Writes...)
			fmt.Fprintf(&b, "ReadWritePaths=%s\n", unitLine(writes))
			if !slices.ContainsFunc(writes, temporary) {
				b.WriteString("PrivateTmp=yes\n")
			}
		}
	}
	fmt.Fprintf(&b, "\n[Install]\nWantedBy=%s\n", target)
	return b.String()
}

func temporary(p string) bool {
	return strings.HasPrefix(p+"/", "/tmp/") || strings.HasPrefix(p+"/", "/var/tmp/")
}
