package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"ztm/agent/console"
	"ztm/apps"
)

// TestOldWordsLeadToNew holds that who types what they know from ZTM is told what to type here, and
// that this exists.
func TestOldWordsLeadToNew(t *testing.T) {
	c := console.New(console.Config{})
	for _, tt := range []struct{ line, hint string }{
		{"port set port --listen 1 --via ep --target h:1", "ztm forward"},
		{"users list", "ztm get user"},
		{"users group ops --add-users bob", "ztm group add"},
		{"attach hub", "ztm get hub"},
		{"enable mesh demo", "ztm join"},
		{"disable mesh demo", "ztm leave"},
		{"root --names a:1", "ztm rotate root"},
		{"ca export --cert a --key b", "ztm rotate root"},
		{"run hub --ca http://x", "--keep-ca"},
		{"start hub --ca http://x", "--keep-ca"},
		{"run hub --bootstrap a:1", "ztm invite --hub"},
		{"run agent --listen 127.0.0.1:7777", "--data"},
		{"start agent --listen 7777", "--data"},
		{"start agent --pqc-signature ML-DSA-44", "post-quantum"},
		{"run hub --pqc-key-exchange ML-KEM-768", "post-quantum"},
		{"config --agent localhost:7777", "--data"},
		{"try openclaw", "ztm join"},
		{"publish file /users/me/a", "ztm cloud publish"},
		{"unpublish file /users/me/a", "ztm cloud unpublish"},
		{"download file /users/me/a", "ztm cloud download"},
		{"erase file /users/me/a", "ztm cloud erase"},
		{"log hub", "ztm log ep"},
		{"llm get svc", "ztm tunnel open"},
		{"chat", "ztm tunnel open"},
		{"proxy rules --groups ops", "group:"},
		{"proxy ca", "TLS"},
		{"proxy config --gen-cert on", "TLS"},
		{"proxy config --set-log splunk", "ztm proxy status"},
		{"script x.js --args a b", "--"},
		{"cloud share x --set-all readonly", "--all on"},
	} {
		err := c.Check(strings.Fields(tt.line), commands(c), false)
		var h *apps.HintError
		if !errors.As(err, &h) || !strings.Contains(h.Hint, tt.hint) {
			t.Errorf("ztm %s: %v; want a hint at %q", tt.line, err, tt.hint)
			continue
		}
		for _, m := range regexp.MustCompile(`ztm ([^;,:]*)`).FindAllStringSubmatch(h.Hint, -1) {
			if err := c.Check(mentioned(m[1]), commands(c), true); err != nil {
				t.Errorf("the hint for %s says ztm %s: %v", tt.line, m[1], err)
			}
		}
	}
}

// TestOldCommandsThatStayed holds that command lines of ZTM which meant the same are still
// understood.
func TestOldCommandsThatStayed(t *testing.T) {
	c := console.New(console.Config{})
	for _, line := range []string{
		"run hub --listen 0.0.0.0:8888 --names 1.2.3.4:8888 --permit root.json", "run agent --join demo --join-as ep --permit p.json",
		"join demo --as ep --permit root.json", "leave demo", "identity", "invite bob --identity bob.pub --permit bob.json", "evict bob",
		"get meshes", "get endpoints", "get hubs", "describe ep x", "describe mesh x", "stats ep", "ping ep x", "log ep",
		"label --add a --delete b", "version --json", "config --mesh demo", "completion bash", "endpoint x get ep", "mesh demo get ep",
		"tunnel open outbound tcp/web --targets 127.0.0.1:80 --users root alice", "tunnel open in tcp/web --listen 18080",
		"tunnel get tun", "tunnel describe out tcp/x", "tunnel close out tcp/x", "proxy config --add-target 0.0.0.0/0 *",
		"proxy config --set-listen 127.0.0.1:1080", "proxy rules --index 0 --delete", "terminal config --add-user alice --del-user bob",
		"terminal config --set-shell sh", "terminal open ep-bob", "ep ep-root2 file ls /etc", "file cp a ep:b",
		"cloud ls --hash", "cloud mirror x --download on --upload off", "cloud config --local-dir d", "cloud share x --set-readonly bob",
	} {
		if err := c.Check(strings.Fields(line), commands(c), false); err != nil {
			t.Errorf("ztm %s: %v", line, err)
		}
	}
}

// TestAFileOfFrpChangesNothingUntilItIsApplied holds that what people want to look at first can be
// looked at.
func TestAFileOfFrpChangesNothingUntilItIsApplied(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	file := w.path("frpc.toml")
	w.write("frpc.toml", "serverAddr = \"frp.example.com\"\n[[proxies]]\nname = \"web\"\ntype = \"tcp\"\nlocalIP = \"127.0.0.1\"\nlocalPort = 80\nremotePort = 6000\n")
	if out := w.ztm("root", "import", file); !strings.Contains(out, "ztm tunnel open outbound tcp/web") {
		t.Errorf("it does not show what it would do:\n%s", out)
	}
	if out := w.ztm("root", "get", "tunnel", "-o", "json"); strings.Contains(out, "web") {
		t.Errorf("it was done already:\n%s", out)
	}
	w.ztm("root", "import", file, "--apply")
	if out := w.ztm("root", "get", "tunnel", "-o", "json"); !strings.Contains(out, "web") {
		t.Errorf("it was not done:\n%s", out)
	}
}
