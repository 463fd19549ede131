package service

import (
	"fmt"
	"strings"

	"ztm/tunnel/shellwords"
)

// procd installs the service on OpenWrt. Its options are in /etc/config/ztm, where `uci` and the
// web pages of the router can change them. Every option and list of the section becomes an option
// of `ztm run`.
func procd(s Spec) Plan {
	file := "/etc/init.d/" + s.Name()
	section := "ztm." + s.Role
	start := []Command{
		try("uci", "-q", "delete", section),
		run("uci", "set", section+"="+s.Role),
		run("uci", "set", section+".enabled=1"),
	}
	if s.Account != "" {
		start = append(start, run("uci", "set", section+".account="+s.Account))
	}
	lists := map[string]int{}
	for _, o := range s.Options {
		name, _, _ := strings.Cut(o, "=")
		lists[name]++
	}
	for _, o := range s.Options {
		flag, value, _ := strings.Cut(o, "=")
		option := section + "." + strings.ReplaceAll(strings.TrimPrefix(flag, "--"), "-", "_") + "=" + value
		if lists[flag] > 1 {
			start = append(start, run("uci", "add_list", option))
		} else {
			start = append(start, run("uci", "set", option))
		}
	}
	start = append(start, run("uci", "commit", "ztm"), run(file, "enable"), run(file, "restart"))
	return Plan{
		System: "procd", Name: s.Name(), Dirs: []string{s.Data}, Files: ProcdFiles(s),
		Start:  start,
		Stop:   []Command{try(file, "stop"), try(file, "disable"), try("uci", "set", section+".enabled=0"), try("uci", "commit", "ztm")},
		Status: run(file, "running"), Hint: "logread -e ztm",
	}
}

// ProcdFiles returns the files that both `ztm start` and the packages for OpenWrt install.
func ProcdFiles(s Spec) []File {
	script := fmt.Sprintf(procdScript, shellwords.POSIX(s.Exe), s.Role)
	keep := strings.Join([]string{"/etc/config/ztm", s.Data + "/", s.Exe, "/etc/init.d/" + s.Name()}, "\n") + "\n"
	return []File{
		{Path: "/etc/init.d/" + s.Name(), Mode: 0o755, Text: script},
		{Path: "/etc/config/ztm", Mode: 0o600, Text: uciConfig, Keep: true},
		{Path: "/lib/upgrade/keep.d/" + s.Name(), Mode: 0o644, Text: keep},
	}
}

const uciConfig = `# Every option of a section becomes an option of 'ztm run': 'option log_level debug' is --log-level=debug.

config agent 'agent'
	option enabled '0'
	option data '/etc/ztm'

config hub 'hub'
	option enabled '0'
	option data '/etc/ztm'
`

// procd runs the program in the foreground. respawn has no limit: its default is five quick
// failures.
const procdScript = `#!/bin/sh /etc/rc.common

USE_PROCD=1
START=95
STOP=10

PROGRAM=%[1]s
ROLE=%[2]s

# config_load calls these for every option and every entry of a list.
option_cb() {
	local name
	[ "$CONFIG_SECTION" = "$ROLE" ] || return 0
	case "$1" in
	enabled | account) return 0 ;;
	esac
	[ -n "$collecting" ] || return 0
	name=$(echo "$1" | tr _ -)
	procd_append_param command "--$name=$2"
}

list_cb() {
	option_cb "$@"
}

start_service() {
	local enabled account collecting
	config_load ztm
	config_get_bool enabled "$ROLE" enabled 0
	[ "$enabled" = 1 ] || return 0
	config_get account "$ROLE" account

	procd_open_instance
	procd_set_param command "$PROGRAM" run "$ROLE"
	collecting=1
	config_load ztm
	[ -z "$account" ] || procd_set_param user "$account"
	procd_set_param env HOME=/root
	procd_set_param respawn 3600 5 0
	procd_set_param limits nofile="65536 65536"
	procd_set_param stdout 1
	procd_set_param stderr 1
	procd_close_instance
}

service_triggers() {
	procd_add_reload_trigger ztm
}
`
