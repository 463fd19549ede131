package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEnvironmentFileIsReadAndNeverRun(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
		err        string
	}{
		{"nothing", "", nil, ""},
		{"comments and blank lines", "# a\n\n ; b\n", nil, ""},
		{"as systemd and sh both read it", "HTTPS_PROXY='http://me:secret@proxy:1'\nNO_PROXY=10.0.0.0/8,.local \r\n",
			[]string{"HTTPS_PROXY=http://me:secret@proxy:1", "NO_PROXY=10.0.0.0/8,.local"}, ""},
		{"with export, and a comment behind", "export A=\"b \\\" \\\\ \\x\" # c", []string{`A=b " \ \x`}, ""},
		{"nothing is expanded", "A=$(touch /x)`y`$HOME", []string{"A=$(touch /x)`y`$HOME"}, ""},
		{"empty", "A=", []string{"A="}, ""},
		{"a command", "touch /x", nil, "line 1: want NAME=value"},
		{"a strange name", "\nA B=secret", nil, "line 2: want NAME=value"},
		{"an open quote", "A='secret", nil, "line 1: the value of A is not quoted as it should be"},
		{"words behind a quote", "A='secret' B", nil, "line 1: the value of A is not quoted as it should be"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "environment"), tt.text)
			got, err := Environment(dir)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && (!strings.HasSuffix(err.Error(), tt.err) || strings.Contains(err.Error(), "secret")) {
				t.Errorf("error %v, want %s", err, tt.err)
			}
		})
	}
}

func TestEnvironmentFileThatIsMissingIsNoError(t *testing.T) {
	if got, err := Environment(t.TempDir()); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestEnvironmentFileThatOthersCouldWriteIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("modes say nothing there")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "environment")
	write(t, path, "A=b")
	if err := os.Chmod(path, 0o620); err != nil {
		t.Fatal(err)
	}
	if got, err := Environment(dir); err == nil {
		t.Errorf("its group may write it: %q", got)
	}
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Chmod(path, 0o600), os.Lchown(path, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		if got, err := Environment(dir); err == nil || errors.Is(err, fs.ErrPermission) {
			t.Errorf("it is another account's: %q, %v", got, err)
		}
	}
}

func FuzzVariables(f *testing.F) {
	f.Add("A=b\n# c\nexport D='e f' # g\nH=\"i\\\"j\"\n")
	f.Add("=x")
	f.Add("A='b")
	f.Fuzz(func(t *testing.T, text string) {
		vars, err := variables(text)
		if err != nil {
			return
		}
		for _, v := range vars {
			name, value, ok := strings.Cut(v, "=")
			if !ok || !variableName(name) || strings.ContainsAny(value, "\x00\n") {
				t.Errorf("%q has the variable %q", text, v)
			}
		}
	})
}
