package service

import (
	"fmt"

	"ztm/tunnel/shellwords"
)

// sysv installs the service with an LSB script and start-stop-daemon, which Debian and busybox
// have. A loop in the script restarts it.
func sysv(s Spec) Plan {
	file := "/etc/init.d/" + s.Name()
	account, log := "", ""
	if s.Account != "" {
		account = "--chuid " + shellwords.POSIX(s.Account) + " "
		log = "\t: >\"$LOG\" && chown " + shellwords.POSIX(s.Account) + " \"$LOG\"\n"
	}
	return Plan{
		System: "sysv", Name: s.Name(), Dirs: []string{s.Data},
		Files: []File{{Path: file, Mode: 0o755, Text: fmt.Sprintf(sysvScript,
			s.Name(), s.Role, shellwords.POSIX(s.Command()...), account, log)}},
		// One of the two enables it: the system has the tool of its own family.
		Start: []Command{try("update-rc.d", s.Name(), "defaults"), try("chkconfig", "--add", s.Name()),
			try("chkconfig", s.Name(), "on"), run(file, "restart")},
		Stop:   []Command{try(file, "stop"), try("update-rc.d", s.Name(), "disable"), try("chkconfig", s.Name(), "off")},
		Status: run(file, "status"),
		Remove: []Command{try("update-rc.d", s.Name(), "remove")},
		Hint:   "/var/log/" + s.Name() + ".log",
	}
}

const sysvScript = `#!/bin/sh
### BEGIN INIT INFO
# Provides:          %[1]s
# Required-Start:    $network $remote_fs $syslog
# Required-Stop:     $network $remote_fs $syslog
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: ztm %[2]s
### END INIT INFO

PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
PIDFILE=/var/run/%[1]s.pid
LOG=/var/log/%[1]s.log

# supervise restarts the program until it gets a signal. The log is that of the last start of the service.
supervise() {
	trap 'kill "$child"; wait "$child"; exit 0' TERM INT
	while :; do
		%[3]s &
		child=$!
		wait "$child"
		sleep 5 &
		child=$!
		wait "$child"
	done
}

case "$1" in
start)
%[5]s	start-stop-daemon --start --quiet --background --make-pidfile --pidfile "$PIDFILE" %[4]s--startas /bin/sh -- \
		-c "exec /bin/sh '$0' supervise" || [ $? = 1 ]
	;;
stop)
	start-stop-daemon --stop --quiet --retry 10 --pidfile "$PIDFILE" || [ $? = 1 ]
	rm -f "$PIDFILE"
	;;
restart | force-reload)
	"$0" stop && "$0" start
	;;
status)
	[ -r "$PIDFILE" ] && kill -0 "$(cat "$PIDFILE")" 2>/dev/null
	;;
supervise)
	supervise >"$LOG" 2>&1
	;;
*)
	echo "usage: $0 {start|stop|restart|force-reload|status}" >&2
	exit 2
	;;
esac
`
