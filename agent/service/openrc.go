package service

import (
	"fmt"

	"ztm/tunnel/shellwords"
)

// openrc installs the service with supervise-daemon, which restarts it.
func openrc(s Spec) Plan {
	file := "/etc/init.d/" + s.Name()
	account := ""
	if s.Account != "" {
		account = fmt.Sprintf("command_user=%s\n", shellwords.POSIX(s.Account))
	}
	return Plan{
		System: "openrc", Name: s.Name(), Dirs: []string{s.Data},
		Files: []File{{Path: file, Mode: 0o755, Text: fmt.Sprintf(openrcScript,
			s.Role, shellwords.POSIX(s.Exe), shellwords.POSIX(shellwords.POSIX(s.Command()[1:]...)), account, s.Name())}},
		Start:  []Command{run("rc-update", "add", s.Name(), "default"), run("rc-service", s.Name(), "restart")},
		Stop:   []Command{try("rc-service", s.Name(), "stop"), try("rc-update", "del", s.Name(), "default")},
		Status: run("rc-service", "--quiet", s.Name(), "status"), Hint: "the system log, under " + s.Name(),
	}
}

const openrcScript = `#!/sbin/openrc-run

description="ztm %[1]s"
supervisor=supervise-daemon
command=%[2]s
command_args=%[3]s
%[4]srespawn_delay=5
respawn_max=0
rc_ulimit="-n 65536"
output_logger="logger -t %[5]s"
error_logger="logger -t %[5]s"

depend() {
	use net dns logger
	after firewall
}
`
