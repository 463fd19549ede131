package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

func TestABrowserIsOpenedWhereItIsSeen(t *testing.T) {
	for _, tt := range []struct {
		system string
		env    []string
		want   bool
	}{
		{"linux", nil, false}, {"linux", []string{"DISPLAY"}, true}, {"linux", []string{"WAYLAND_DISPLAY"}, true},
		{"linux", []string{"DISPLAY", "SSH_CONNECTION"}, false}, {"darwin", []string{"SSH_TTY"}, false}, {"darwin", nil, true}, {"windows", nil, true},
	} {
		getenv := func(name string) string {
			if strings.Contains(strings.Join(tt.env, " ")+" ", name+" ") {
				return "x"
			}
			return ""
		}
		if got := hasScreen(tt.system, getenv); got != tt.want {
			t.Errorf("%s with %v: %v", tt.system, tt.env, got)
		}
	}
}

// TestTheCodeIsInAPrivateFileAndInNoCommandLine is about other users of the machine, who see the
// command lines of all processes.
func TestTheCodeIsInAPrivateFileAndInNoCommandLine(t *testing.T) {
	const address = "http://127.0.0.1:7777/#SECRETCODE"
	place, err := redirection(t.TempDir(), address)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(place, "SECRET") || !strings.HasSuffix(place, ".html") {
		t.Errorf("file %s", place)
	}
	if b, _ := os.ReadFile(place); !strings.Contains(string(b), "url="+address+"\"") {
		t.Errorf("the file leads elsewhere: %s", b)
	}
	if fi, err := os.Stat(place); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if dir := home(func(string) string { return "/home/x" }); runtime.GOOS == "linux" && dir != "/home/x" || filepath.Base(dir) == "" {
		t.Errorf("directory %s", dir)
	}
}
