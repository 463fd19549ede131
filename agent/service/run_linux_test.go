package service

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// openWrt is as much of OpenWrt's shell library as the script uses: it prints what procd would be told.
const openWrt = `
config_load() {
	CONFIG_SECTION=agent
	option_cb enabled 1; option_cb data /etc/ztm; option_cb log_level debug; option_cb account ztm
	CONFIG_SECTION=hub
	option_cb enabled 0; list_cb names 'a b:1'; list_cb names b:2
}
config_get_bool() { [ "$2" = agent ] && eval "$1=1" || eval "$1=0"; }
config_get() { [ "$2" = agent ] && eval "$1=ztm"; }
procd_open_instance() { echo open; }
procd_close_instance() { echo close; }
procd_set_param() { echo "set $*"; }
procd_append_param() { echo "append $*"; }
`

func TestProcdGetsTheOptionsOfItsSection(t *testing.T) {
	shells := [][]string{{"sh"}}
	if b, err := exec.LookPath("busybox"); err == nil {
		shells = append(shells, []string{b, "ash"})
	}
	for role, want := range map[string]string{
		"agent": `open
set command /usr/bin/ztm run agent
append command --data=/etc/ztm
append command --log-level=debug
set user ztm
set env HOME=/root
set respawn 3600 5 0
set limits nofile=65536 65536
set stdout 1
set stderr 1
close
`, "hub": ""} {
		for _, sh := range shells {
			script := openWrt + procd(Spec{Role: role, Exe: "/usr/bin/ztm", Data: "/etc/ztm"}).Files[0].Text + "\nstart_service\n"
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

// TestTheScriptOfSysVStartsAgain runs the real script with real processes, below a directory.
func TestTheScriptOfSysVStartsAgain(t *testing.T) {
	if _, err := exec.LookPath("start-stop-daemon"); err != nil || os.Geteuid() != 0 {
		t.Skip("needs start-stop-daemon and root")
	}
	dir := t.TempDir()
	exe := filepath.Join(dir, "ztm")
	program := "#!/bin/sh\necho \"$@\" >>" + dir + "/starts\nexec sleep 1000\n"
	if err := os.WriteFile(exe, []byte(program), 0o755); err != nil {
		t.Fatal(err)
	}
	f := sysv(Spec{Role: "agent", Exe: exe, Data: dir, Options: []string{"--data=" + dir}}).Files[0]
	f.Path = filepath.Join(dir, "init")
	f.Text = strings.NewReplacer("/var/run/", dir+"/", "/var/log/", dir+"/", "sleep 5", "sleep 0").Replace(f.Text)
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
