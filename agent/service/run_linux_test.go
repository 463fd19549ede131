package service

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
	"ztm/tunnel/shellwords"
)

// openWrt is as much of OpenWrt's shell library as the script uses: it prints what procd would be
// told.
const openWrt = `
config_load() {
	CONFIG_SECTION=agent
	option_cb enabled 1; option_cb data "$DATA"; option_cb log_level debug; option_cb account ztm
	CONFIG_SECTION=hub
	option_cb enabled 0; list_cb names 'a b:1'; list_cb names b:2
}
config_get_bool() { [ "$2" = agent ] && eval "$1=1" || eval "$1=0"; }
config_get() { case "$2.$3" in agent.account) eval "$1=ztm" ;; agent.data) eval "$1=\$DATA" ;; esac; }
procd_open_instance() { echo open; }
procd_close_instance() { echo close; }
procd_set_param() { [ "$1" = command ] && shift && for w in "$@"; do echo "word $w"; done || echo "set $*"; }
procd_append_param() { echo "word $2"; }
`

// shells are the commands of the shells that this machine has.
func shells() [][]string {
	out := [][]string{{"sh"}}
	for _, s := range [][]string{{"busybox", "ash"}, {"dash"}, {"bash", "--posix"}} {
		if path, err := exec.LookPath(s[0]); err == nil {
			out = append(out, append([]string{path}, s[1:]...))
		}
	}
	return out
}

func TestShellsUnderstandTheScripts(t *testing.T) {
	appstest.Long(t)
	for _, tt := range []struct{ system, pattern string }{
		{"procd", "init.d/*"}, {"openrc", "init.d/*"}, {"sysv", "init.d/*"}, {"rc.d", "rc.d/*"}, {"termux", "*/run"}, {"termux", "boot/*"},
	} {
		for _, f := range files(t, tt.system, tt.pattern) {
			for _, sh := range shells() {
				if out, err := exec.Command(sh[0], append(sh[1:], "-n", f)...).CombinedOutput(); err != nil {
					t.Errorf("%v %s: %v: %s", sh, f, err, out)
				}
			}
		}
	}
}

func TestProcdGetsTheOptionsOfItsSection(t *testing.T) {
	for role, want := range map[string]string{
		"agent": `open
word /usr/bin/ztm
word run
word agent
word --data=/etc/ztm
word --log-level=debug
set user ztm
set env HOME=/root
set respawn 3600 5 0
set limits nofile=65536 65536
set stdout 1
set stderr 1
close
`, "hub": ""} {
		for _, sh := range shells() {
			script := "DATA=/etc/ztm" + openWrt + procd(Spec{Role: role, Exe: "/usr/bin/ztm", Data: "/etc/ztm"}).Files[0].Text + "\nstart_service\n"
			out, err := exec.Command(sh[0], append(sh[1:], "-c", script)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %v: %s", sh, err, out)
			}
			if diff := cmp.Diff(want, string(out)); diff != "" {
				t.Errorf("%s under %v (-want +got):\n%s", role, sh, diff)
			}
		}
	}
}

// TestServiceScriptsRunNothingOfTheDataDirectory runs the scripts that a service manager runs as
// root. The data directory belongs to the account of the service, and what lies in it must not be
// run by root.
func TestServiceScriptsRunNothingOfTheDataDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's mine")
	mark := filepath.Join(dir, "mark")
	program := File{Path: filepath.Join(dir, "ztm"), Mode: 0o755, Text: "#!/bin/sh\necho ran >&2\n"}
	variables := File{Path: filepath.Join(dir, "environment"), Mode: 0o644, Text: "touch " + shellwords.POSIX(mark) + "\n"}
	for _, f := range []File{program, variables} {
		if err := f.write(); err != nil {
			t.Fatal(err)
		}
	}
	spec := Spec{Role: "agent", Exe: program.Path, Data: dir, Account: "nobody", Options: []string{"--data=" + dir}}
	tests := []struct {
		system, before, after string
	}{
		{"openrc", "", "command -v start_pre >/dev/null && start_pre; command -v start >/dev/null && start; :"},
		{"rc.d", "load_rc_config() { :; }; run_rc_command() { ztm_agent_start; }\n", ""},
		{"procd", "DATA=" + shellwords.POSIX(dir) + openWrt, "start_service | sed -n 's/^word //p'"},
		{"sysv", "start-stop-daemon() { :; }\nset -- start\n", ""},
	}
	for _, tt := range tests {
		for _, sh := range shells() {
			sys, err := SystemNamed(tt.system)
			if err != nil {
				t.Fatal(err)
			}
			text := strings.NewReplacer(". /etc/rc.subr", "", "/usr/sbin/daemon -P", ": -P").Replace(sys.Plan(spec).Files[0].Text)
			out, err := exec.Command(sh[0], append(sh[1:], "-c", tt.before+text+"\n"+tt.after)...).CombinedOutput()
			if _, there := os.Stat(mark); there == nil {
				t.Fatalf("%s under %v ran the file: %v: %s", tt.system, sh, err, out)
			}
		}
	}
}

// TestNoPlanNamesTheEnvironmentFile: the program reads it, as the account; what a service manager
// reads, it reads as root.
func TestNoPlanNamesTheEnvironmentFile(t *testing.T) {
	for _, sys := range Systems() {
		var plan bytes.Buffer
		if err := sys.Plan(specs()["agent"]).Print(&plan); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(plan.String(), "/environment") {
			t.Errorf("%s:\n%s", sys.Name, plan.String())
		}
	}
}

// TestTheScriptOfSysVStartsAgain runs the real script with real processes, below a directory: with
// Debian's start-stop-daemon, and with that of busybox, which small systems have.
func TestTheScriptOfSysVStartsAgain(t *testing.T) {
	appstest.Long(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for _, tool := range []string{"start-stop-daemon", "busybox"} {
		t.Run(tool, func(t *testing.T) {
			path, err := exec.LookPath(tool)
			if err != nil {
				t.Skipf("%s is not installed", tool)
			}
			tools := t.TempDir()
			if err := os.Symlink(path, filepath.Join(tools, "start-stop-daemon")); err != nil {
				t.Fatal(err)
			}
			startsAgain(t, tools)
		})
	}
}

// startsAgain has the script find its tools in a directory first.
func startsAgain(t *testing.T, tools string) {
	dir := t.TempDir()
	exe := filepath.Join(dir, "ztm")
	program := "#!/bin/sh\necho \"$@\" >>" + dir + "/starts\nexec sleep 1000\n"
	if err := os.WriteFile(exe, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	f := sysv(Spec{Role: "agent", Exe: exe, Data: dir, Options: []string{"--data=" + dir}}).Files[0]
	f.Path = filepath.Join(dir, "init")
	f.Text = strings.NewReplacer("/var/run/", dir+"/", "/var/log/", dir+"/", "sleep 5", "sleep 0", "\nPATH=", "\nPATH="+tools+":").Replace(f.Text)
	if err := f.write(); err != nil {
		t.Fatal(err)
	}
	script := func(verb string) error { return exec.Command(f.Path, verb).Run() }
	if script("status") == nil {
		t.Error("it runs before it was started")
	}
	if err := script("start"); err != nil {
		t.Fatal(err)
	}
	defer script("stop")
	starts := func() int {
		b, _ := os.ReadFile(dir + "/starts")
		return strings.Count(string(b), "run agent --data="+dir)
	}
	eventually(t, "it is started", func() bool { return starts() == 1 })
	if err := script("status"); err != nil {
		t.Error("it does not run")
	}
	if err := script("start"); err != nil {
		t.Errorf("a second start: %v", err)
	}
	pid, err := os.ReadFile(dir + "/ztm-agent.pid")
	if err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/task/" + strings.TrimSpace(string(pid)) + "/children")
	if err != nil {
		t.Skipf("this kernel does not list children: %v", err)
	}
	if out, err := exec.Command("kill", strings.Fields(string(children))...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	eventually(t, "it is started again", func() bool { return starts() == 2 })
	if err := script("stop"); err != nil {
		t.Fatal(err)
	}
	if script("status") == nil {
		t.Error("it runs after it was stopped")
	}
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(20 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatal("never: " + what)
		}
	}
}

func TestTheServiceManagerIsRecognised(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"run/systemd/system/x", "systemd"}, {"etc/openwrt_release", "procd"}, {"sbin/openrc-run", "openrc"}, {"etc/init.d/x", "sysv"}, {"x", ""},
	} {
		root := t.TempDir() + "/"
		if err := (File{Path: root + tt.file, Mode: 0o644}).write(); err != nil {
			t.Fatal(err)
		}
		if got := detectIn(root); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.file, got, tt.want)
		}
	}
	if got := detect(func(string) string { return "/data/data/com.termux/files/usr" }); got != "termux" {
		t.Errorf("Termux is taken for %q", got)
	}
}
