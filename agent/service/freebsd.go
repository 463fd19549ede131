package service

import (
	"fmt"
	"path"
	"strings"

	"ztm/tunnel/shellwords"
)

// freebsd installs the service with rc.d and daemon(8), which restarts it and sends its log to
// syslog. The pidfile is that of the supervisor: if rc.d stopped the child, the supervisor would
// restart it.
func freebsd(s Spec) Plan {
	name := strings.ReplaceAll(s.Name(), "-", "_")
	account := ""
	if s.Account != "" {
		account = " -u " + shellwords.POSIX(s.Account)
	}
	return Plan{
		System: "rc.d", Name: name, Dirs: []string{s.Data},
		Files: []File{{Path: path.Join("/usr/local/etc/rc.d", name), Mode: 0o555,
			Text: fmt.Sprintf(rcdScript, name, s.Name(), account, shellwords.POSIX(s.Command()...))}},
		Start:  []Command{run("sysrc", name+"_enable=YES"), run("service", name, "restart")},
		Stop:   []Command{try("service", name, "onestop"), try("sysrc", "-x", name+"_enable")},
		Status: run("service", name, "onestatus"), Hint: "/var/log/messages, under " + s.Name(),
	}
}

const rcdScript = `#!/bin/sh

# PROVIDE: %[1]s
# REQUIRE: NETWORKING syslogd
# KEYWORD: shutdown

. /etc/rc.subr

name=%[1]s
rcvar=%[1]s_enable
load_rc_config $name
: ${%[1]s_enable:=NO}

pidfile=/var/run/%[1]s.pid
procname=/usr/sbin/daemon
start_cmd=%[1]s_start

%[1]s_start() {
	/usr/sbin/daemon -P "$pidfile" -r -R 5 -S -T %[2]s%[3]s %[4]s
}

run_rc_command "$1"
`
