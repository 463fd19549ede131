package console

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheUsualDirectory(t *testing.T) {
	openWrt := t.TempDir()
	if err := os.Mkdir(filepath.Join(openWrt, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(openWrt, "etc/openwrt_release"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, root string
		uid        int
		want       string
	}{
		{"root of a router", openWrt, 0, "/etc/ztm"},
		{"a user of a router", openWrt, 1000, filepath.Join("home", ".ztm")},
		{"root elsewhere", t.TempDir(), 0, filepath.Join("home", ".ztm")},
	} {
		if got := usualDir(tt.root, tt.uid, "home"); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}
