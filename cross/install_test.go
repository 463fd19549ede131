//go:build linux

package main

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// fakeProgram is a release's binary as far as install.sh looks at it: it runs, and makes links.
const fakeProgram = `#!/bin/sh
case "$1" in
version) echo %s ;;
install-links) for r in agent hub; do [ -e "$2/ztm-$r" ] || ln -s ztm "$2/ztm-$r"; done ;;
*) exit 1 ;;
esac
`

// writeRelease makes a directory with every binary and their sums.
func writeRelease(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	var sums strings.Builder
	for _, x := range Targets() {
		name := "ztm-" + x.File()
		program := fmt.Sprintf(fakeProgram, x.Name+" "+version)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(program), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256([]byte(program)), name)
	}
	if err := os.WriteFile(filepath.Join(dir, "SHA256SUMS"), []byte(sums.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// device is what install.sh finds out about a machine.
type device struct {
	uname string            // answers of uname -s, -m and -r, with blanks between
	files map[string]string // of its root
	env   []string
}

// install runs install.sh under a shell as if it were on the device, whose root is a directory.
func (d device) install(t *testing.T, shell []string, root string, args ...string) (string, error) {
	t.Helper()
	for path, text := range d.files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	u := strings.Fields(d.uname)
	script, err := filepath.Abs("../scripts/install.sh")
	if err != nil {
		t.Fatal(err)
	}
	// A function comes before a program and before what the shell has built in.
	fake := fmt.Sprintf(`uname() { case "$1" in -s) echo %s ;; -m) echo %s ;; -r) echo %s ;; *) echo fake ;; esac; }; . "$0"`, u[0], u[1], u[2])
	cmd := exec.Command(shell[0], append(append(shell[1:], "-c", fake, script, "--root", root), args...)...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, d.env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// shells are those that install.sh is tried under.
func shells(t *testing.T) [][]string {
	t.Helper()
	out := [][]string{{"sh"}}
	for _, s := range [][]string{{"busybox", "ash"}, {"bash", "--posix"}} {
		if path, err := exec.LookPath(s[0]); err == nil {
			out = append(out, []string{path, s[1]})
		}
	}
	return out
}

func elfFile(class, data byte) string { return "\x7fELF" + string([]byte{class, data}) + "rest" }

func openWrt(arch string) map[string]string {
	return map[string]string{"etc/openwrt_release": "DISTRIB_ID='OpenWrt'\nDISTRIB_ARCH='" + arch + "'\n"}
}

func TestInstallFindsTheBinary(t *testing.T) {
	from := writeRelease(t, "v1")
	termux := []string{"PREFIX=/data/data/com.termux/files/usr", "ANDROID_ROOT=/system"}
	type test struct {
		name string
		device
		want string // the target, or a part of the refusal
		bin  string
	}
	tests := []test{
		{"Debian", device{uname: "Linux x86_64 6.1.0-9-amd64"}, "linux/amd64", "usr/local/bin"},
		{"Debian on ARM", device{uname: "Linux aarch64 6.1.0"}, "linux/arm64", "usr/local/bin"},
		{"an old PC", device{uname: "Linux i686 5.10.0", files: map[string]string{"proc/cpuinfo": "flags : fpu sse sse2\n"}}, "linux/386", "usr/local/bin"},
		{"Raspberry Pi 1", device{uname: "Linux armv6l 6.1.0"}, "linux/arm5", "usr/local/bin"},
		{"ARM with VFP", device{uname: "Linux armv7l 6.1.0", files: map[string]string{"proc/cpuinfo": "Features : half thumb vfpv3 neon\n"}}, "linux/armv7", "usr/local/bin"},
		{"ARM without", device{uname: "Linux armv7l 6.1.0", files: map[string]string{"proc/cpuinfo": "Features : half thumb\n"}}, "linux/arm5", "usr/local/bin"},
		{"MIPS, little", device{uname: "Linux mips 4.14.0", files: map[string]string{"bin/sh": elfFile(1, 1)}}, "linux/mipsle", "usr/local/bin"},
		{"MIPS, big", device{uname: "Linux mips 4.14.0", files: map[string]string{"bin/sh": elfFile(1, 2)}}, "linux/mips", "usr/local/bin"},
		{"MIPS64, big", device{uname: "Linux mips64 5.4.0", files: map[string]string{"bin/sh": elfFile(2, 2)}}, "linux/mips64", "usr/local/bin"},
		{"MIPS64, little", device{uname: "Linux mips64 5.4.0", files: map[string]string{"bin/sh": elfFile(1, 1)}}, "linux/mips64le", "usr/local/bin"},
		{"RISC-V", device{uname: "Linux riscv64 6.6.0"}, "linux/riscv64", "usr/local/bin"},
		{"LoongArch, new world", device{uname: "Linux loongarch64 5.19.0"}, "linux/loong64", "usr/local/bin"},
		{"LoongArch, old world", device{uname: "Linux loongarch64 4.19.0-19-loongson"}, "of the old world", ""},
		{"MIPS64, old kernel", device{uname: "Linux mips64 4.1.0", files: map[string]string{"bin/sh": elfFile(2, 1)}}, "needs 4.8 or later", ""},
		{"old kernel", device{uname: "Linux x86_64 2.6.32"}, "needs 3.2 or later", ""},
		{"Termux", device{uname: "Linux aarch64 5.4.0", env: termux}, "android/arm64", "data/data/com.termux/files/usr/bin"},
		{"Termux, 32 bits", device{uname: "Linux armv8l 4.9.0", env: termux}, "linux/arm5", "data/data/com.termux/files/usr/bin"},
		{"Android on a PC", device{uname: "Linux x86_64 5.4.0", env: termux}, "no build for Android on x86_64", ""},
		{"Mac", device{uname: "Darwin arm64 23.0"}, "darwin/arm64", "usr/local/bin"},
		{"FreeBSD", device{uname: "FreeBSD amd64 14.1"}, "freebsd/amd64", "usr/local/bin"},
		{"unknown", device{uname: "Linux s390x 6.1"}, "no build for this processor: s390x", ""},
		{"another system", device{uname: "Plan9 mips 4"}, "no build for Plan9", ""},
		{"OpenWrt, no SSE2", device{uname: "Linux i586 6.6.0", files: openWrt("i386_pentium-mmx")}, "no SSE2", ""},
		{"OpenWrt, unknown", device{uname: "Linux ppc 6.6.0", files: openWrt("powerpc_8548")}, "no build for OpenWrt's architecture powerpc_8548", ""},
	}
	for _, x := range Targets() { // what a package is made for is also what is installed
		for _, arch := range x.OpenWrt {
			tests = append(tests, test{"OpenWrt " + arch, device{uname: "Linux whatever 6.6.0", files: openWrt(arch)}, x.Name, "usr/bin"})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, shell := range shells(t) {
				root := t.TempDir()
				said, err := tt.install(t, shell, root, "--from", from)
				if tt.bin == "" {
					if err == nil || !strings.Contains(said, tt.want) {
						t.Errorf("%v: %v: %s", shell, err, said)
					}
					continue
				}
				if err != nil {
					t.Fatalf("%v: %v: %s", shell, err, said)
				}
				out, err := exec.Command(filepath.Join(root, tt.bin, "ztm"), "version").Output()
				if err != nil || string(out) != tt.want+" v1\n" {
					t.Errorf("%v: installed %q, %v; want %s", shell, out, err, tt.want)
				}
			}
		})
	}
}

func TestInstallAgainUpgradeAndRemove(t *testing.T) {
	d := device{uname: "Linux x86_64 6.1.0"}
	for _, shell := range shells(t) {
		root, bin := t.TempDir(), "usr/local/bin"
		must := func(want string, args ...string) {
			t.Helper()
			said, err := d.install(t, shell, root, args...)
			if err != nil || !strings.Contains(said, want) {
				t.Fatalf("%v %q: %v: %s", shell, args, err, said)
			}
		}
		names := func() string {
			entries, err := os.ReadDir(filepath.Join(root, bin))
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, e := range entries {
				out = append(out, e.Name())
			}
			return strings.Join(out, " ")
		}
		old := writeRelease(t, "v1")
		must("installed linux/amd64", "--from", old)
		must("is installed already", "--from", old)
		must("installed linux/amd64", "--from", writeRelease(t, "v2"))
		if got := names(); got != "ztm ztm-agent ztm-hub" {
			t.Errorf("%v left %q", shell, got)
		}
		must("removed", "--uninstall")
		if got := names(); got != "" {
			t.Errorf("%v left %q", shell, got)
		}
		if said, err := d.install(t, shell, root, "--uninstall"); err == nil || !strings.Contains(said, "not installed") {
			t.Errorf("%v: a second time: %v: %s", shell, err, said)
		}
	}
}

func TestRemovingTakesTheServicesAlong(t *testing.T) {
	d := device{uname: "Linux x86_64 6.1.0"}
	for _, shell := range shells(t) {
		bin := t.TempDir()
		// The agent is a service that was stopped, the hub is none.
		program := "#!/bin/sh\necho \"$*\" >>" + bin + `/said
case "$1 $2" in
"status agent") printf 'Service:  ztm-agent\nState:    stopped\nLog:      /running/log\n'; exit 1 ;;
"status hub") printf 'Service:  ztm-hub\nState:    not installed\nLog:      /running/log\n'; exit 1 ;;
esac
`
		if err := os.WriteFile(filepath.Join(bin, "ztm"), []byte(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := d.install(t, shell, "", "--uninstall", "--bin", bin); err != nil {
			t.Fatalf("%v: %v: %s", shell, err, out)
		}
		said, err := os.ReadFile(filepath.Join(bin, "said"))
		if err != nil {
			t.Fatal(err)
		}
		want := "status agent\nstop agent --uninstall\nstatus hub\n"
		if os.Geteuid() != 0 {
			want = "status agent --user\nstop agent --user --uninstall\nstatus hub --user\n"
		}
		if string(said) != want {
			t.Errorf("%v: the program was asked\n%swant\n%s", shell, said, want)
		}
	}
}

func TestNothingOfAnotherMachineIsRun(t *testing.T) {
	d := device{uname: "Linux x86_64 2.6.32"} // the kernel of this machine says nothing about that one
	foreign := []byte("\x7fELF of another processor")
	for name, tt := range map[string]struct {
		files map[string]string
		args  []string
	}{
		"by --target": {nil, []string{"--target", "linux/mipsle"}},
		"OpenWrt":     {map[string]string{"etc/openwrt_release": "touch \"$MARK\"\nDISTRIB_ARCH='mipsel_24kc'\n$(touch \"$MARK\")\n"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			for _, shell := range shells(t) {
				root, from, mark := t.TempDir(), writeRelease(t, "v1"), filepath.Join(t.TempDir(), "mark")
				sum := fmt.Sprintf("%x  ztm-linux-mipsle\n", sha256.Sum256(foreign))
				for file, text := range map[string]string{"ztm-linux-mipsle": string(foreign), "SHA256SUMS": sum} {
					if err := os.WriteFile(filepath.Join(from, file), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				d.files, d.env = tt.files, []string{"MARK=" + mark}
				said, err := d.install(t, shell, root, append(tt.args, "--bin", "/usr/bin", "--from", from)...)
				if err != nil {
					t.Fatalf("%v: %v: %s", shell, err, said)
				}
				if to, err := os.Readlink(filepath.Join(root, "usr/bin/ztm-agent")); err != nil || to != "ztm" {
					t.Errorf("%v: the link of the agent leads to %q, %v", shell, to, err)
				}
				if _, err := os.Stat(mark); err == nil {
					t.Errorf("%v: a file of the mounted system was run", shell)
				}
			}
		})
	}
}

func TestWithoutTLSNothingIsFetchedUnlessAskedFor(t *testing.T) {
	release := writeRelease(t, "v1")
	var asked atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Store(true)
		http.FileServer(http.Dir(release)).ServeHTTP(w, r)
	}))
	defer server.Close()
	d := device{uname: "Linux x86_64 6.1.0"}
	for _, shell := range shells(t) {
		root := t.TempDir()
		if said, err := d.install(t, shell, root, "--from", server.URL); err == nil || asked.Load() {
			t.Errorf("%v: %v: %s", shell, err, said)
		}
	}
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not installed")
	}
	if said, err := d.install(t, []string{"sh"}, t.TempDir(), "--from", server.URL, "--allow-http"); err != nil || !asked.Load() {
		t.Errorf("with --allow-http: %v: %s", err, said)
	}
}

func TestAFullFlashIsNotCalledAMissingFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a small file system")
	}
	d := device{uname: "Linux x86_64 6.1.0"}
	for _, shell := range shells(t) {
		root, from := t.TempDir(), writeRelease(t, "v1")
		bin := filepath.Join(root, "usr/local/bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount("none", bin, "tmpfs", 0, "size=16k"); err != nil {
			t.Skipf("no file system can be mounted here: %v", err)
		}
		t.Cleanup(func() { syscall.Unmount(bin, 0) })
		if err := os.WriteFile(filepath.Join(from, "ztm-linux-amd64"), make([]byte, 64<<10), 0o644); err != nil {
			t.Fatal(err)
		}
		said, err := d.install(t, shell, root, "--from", from)
		if err == nil || !strings.Contains(said, "is there room for it?") {
			t.Errorf("%v: %v: %s", shell, err, said)
		}
		if left, err := os.ReadDir(bin); err != nil || len(left) > 0 {
			t.Errorf("%v left %v, %v", shell, left, err)
		}
	}
}

func TestInstallRefusesWhatItCannotTrust(t *testing.T) {
	d := device{uname: "Linux x86_64 6.1.0"}
	for _, tt := range []struct {
		name, want string
		spoil      func(dir string) error
	}{
		{"another content", "is damaged or was changed", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "ztm-linux-amd64"), []byte("#!/bin/sh\necho evil\n"), 0o644)
		}},
		{"no sum", "does not know ztm-linux-amd64", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), nil, 0o644)
		}},
		{"no sums", "has no SHA256SUMS", func(dir string) error { return os.Remove(filepath.Join(dir, "SHA256SUMS")) }},
		{"does not run", "does not run on this machine", func(dir string) error {
			program := []byte("\x7fELF")
			return os.WriteFile(filepath.Join(dir, "ztm-linux-amd64"), program, 0o644)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, shell := range shells(t) {
				root, from := t.TempDir(), writeRelease(t, "v1")
				if said, err := d.install(t, shell, root, "--from", from); err != nil {
					t.Fatalf("%v: %s", err, said)
				}
				bad := writeRelease(t, "v2")
				if err := tt.spoil(bad); err != nil {
					t.Fatal(err)
				}
				if tt.name == "does not run" {
					sum := fmt.Sprintf("%x  ztm-linux-amd64\n", sha256.Sum256([]byte("\x7fELF")))
					if err := os.WriteFile(filepath.Join(bad, "SHA256SUMS"), []byte(sum), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				said, err := d.install(t, shell, root, "--from", bad)
				if err == nil || !strings.Contains(said, tt.want) {
					t.Errorf("%v: %v: %s", shell, err, said)
				}
				out, err := exec.Command(filepath.Join(root, "usr/local/bin/ztm"), "version").Output()
				if err != nil || string(out) != "linux/amd64 v1\n" {
					t.Errorf("%v: what was there is now %q, %v", shell, out, err)
				}
			}
		})
	}
}

func TestShellcheckHasNothingToSay(t *testing.T) {
	tool, err := exec.LookPath("shellcheck")
	if err != nil {
		t.Skip("shellcheck is not installed")
	}
	if out, err := exec.Command(tool, "../scripts/install.sh").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
