//go:build linux

package emulate

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// prng is a DLL that Wine 8 lacks and Go's runtime asks for random numbers: it passes the question on to where Wine answers it.
const prng = `LIBRARY bcryptprimitives.dll
EXPORTS
ProcessPrng = advapi32.SystemFunction036
`

// wine makes an installation of Windows of its own for the test. It returns the command that runs a program in it, and the environment
// that the command needs.
func wine(t *testing.T) (run, env []string) {
	t.Helper()
	loader, err := exec.LookPath("wine64")
	if err != nil {
		loader = "/usr/lib/wine/wine64" // Debian's package wine64 without wine
	}
	server := filepath.Join(filepath.Dir(loader), "wineserver")
	for tool, pkg := range map[string]string{loader: "wine64", "x86_64-w64-mingw32-dlltool": "binutils-mingw-w64-x86-64"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not here: install Debian's %s", tool, pkg)
		}
	}
	dir := t.TempDir()
	prefix := filepath.Join(dir, "windows")
	env = []string{"WINEPREFIX=" + prefix, "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml="}
	tool := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir, cmd.Env = dir, append(env, "HOME="+dir, "PATH=/usr/bin:/bin")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	tool(loader, "wineboot", "-i")
	tool(server, "-w")
	t.Cleanup(func() {
		cmd := exec.Command(server, "-k") // ends what runs in this installation, and only there
		cmd.Env = env
		cmd.Run()
	})
	if err := os.WriteFile(filepath.Join(dir, "prng.def"), []byte(prng), 0o644); err != nil {
		t.Fatal(err)
	}
	tool("x86_64-w64-mingw32-dlltool", "-m", "i386:x86-64", "-d", "prng.def", "-e", "prng.o")
	tool("x86_64-w64-mingw32-ld", "--shared", "-e", "0", "-o", filepath.Join(prefix, "drive_c/windows/system32/bcryptprimitives.dll"), "prng.o")
	return []string{loader}, env
}
