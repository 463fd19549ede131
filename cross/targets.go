package main

import "strings"

// Target is one binary of a release.
type Target struct {
	Name    string // as -only takes it and as files are named: "linux/mipsle"
	OS      string // GOOS
	Arch    string // GOARCH
	Float   string // GOARM, GOMIPS or GOMIPS64, as the architecture has it
	Profile Profile
	Omit    []string // features that are left out beyond what the profile leaves out
	Add     []string // features that are put in although the profile leaves them out
	Reason  string   // why it is built, and built like this

	// What the packages call the architecture. Empty: no such package.
	OpenWrt []string // every name of OpenWrt's whose processors run this binary
	Debian  string
	Termux  string
	Image   string // GOARCH[/variant] of an OCI image; OS is linux
}

// Profile is what goes into a binary.
type Profile string

// The profiles. Both are hub, agent and command line.
const (
	Full   Profile = "full"   // desktops, servers, phones: everything
	Router Profile = "router" // small flash, slow processor: no JavaScript engine
)

// features are what can be left out of a binary, one by one.
var features = []string{"apps", "audit", "backup", "cloud", "cluster", "console", "datagrams", "file", "hub", "js", "kubernetes", "mirrors", "policies", "proxy", "script", "terminal", "yaml"}

// extras are features that the router profile leaves out and that can be put into it, one by one. The
// others need what the profile has no room for at all: packages that its stand-ins are in the place of.
var extras = []string{"policies"}

// Targets are the binaries of a release. None needs a C compiler. 64-bit ARM is enough of a
// computer for the full profile also where it is a router. MIPS is built for software floating
// point alone: kernels of routers rarely emulate the other.
func Targets() []Target {
	return []Target{
		{Name: "linux/amd64", OS: "linux", Arch: "amd64", Profile: Full, Reason: "servers, desktops",
			OpenWrt: []string{"x86_64"}, Debian: "amd64", Image: "amd64"},
		{Name: "linux/386", OS: "linux", Arch: "386", Float: "sse2", Profile: Router, Add: extras, Reason: "old PCs, thin clients; from Pentium 4 on",
			OpenWrt: []string{"i386_pentium4"}, Debian: "i386", Image: "386"},
		{Name: "linux/arm64", OS: "linux", Arch: "arm64", Profile: Full, Reason: "servers, Raspberry Pi, newer routers",
			OpenWrt: []string{"aarch64_cortex-a53", "aarch64_cortex-a72", "aarch64_cortex-a76", "aarch64_generic"}, Debian: "arm64", Image: "arm64/v8"},
		{Name: "linux/armv7", OS: "linux", Arch: "arm", Float: "7", Profile: Router, Add: extras, Reason: "32-bit ARM with VFPv3",
			OpenWrt: []string{"arm_cortex-a5_vfpv4", "arm_cortex-a7_neon-vfpv4", "arm_cortex-a7_vfpv4", "arm_cortex-a8_vfpv3",
				"arm_cortex-a9_neon", "arm_cortex-a9_vfpv3-d16", "arm_cortex-a15_neon-vfpv4"}, Debian: "armhf", Image: "arm/v7"},
		{Name: "linux/arm5", OS: "linux", Arch: "arm", Float: "5", Profile: Router, Reason: "any 32-bit ARM; 32-bit Android, in Termux",
			OpenWrt: []string{"arm_arm1176jzf-s_vfp", "arm_arm926ej-s", "arm_cortex-a7", "arm_cortex-a9", "arm_fa526", "arm_mpcore", "arm_xscale"},
			Debian:  "armel", Termux: "arm", Image: "arm/v5"},
		{Name: "linux/mipsle", OS: "linux", Arch: "mipsle", Float: "softfloat", Profile: Router, Reason: "most MIPS routers",
			OpenWrt: []string{"mipsel_24kc", "mipsel_24kc_24kf", "mipsel_74kc", "mipsel_mips32"}, Debian: "mipsel"},
		{Name: "linux/mips", OS: "linux", Arch: "mips", Float: "softfloat", Profile: Router, Reason: "big-endian MIPS routers, such as Atheros",
			OpenWrt: []string{"mips_24kc", "mips_4kec", "mips_mips32"}},
		{Name: "linux/mips64le", OS: "linux", Arch: "mips64le", Float: "softfloat", Profile: Router, Add: extras, Reason: "Loongson 3A, 64-bit MIPS boards",
			OpenWrt: []string{"mips64el_mips64r2"}, Debian: "mips64el", Image: "mips64le"},
		{Name: "linux/mips64", OS: "linux", Arch: "mips64", Float: "softfloat", Profile: Router, Reason: "Cavium Octeon, with and without FPU",
			OpenWrt: []string{"mips64_mips64r2", "mips64_octeonplus"}},
		{Name: "linux/riscv64", OS: "linux", Arch: "riscv64", Profile: Router, Add: extras, Reason: "RISC-V boards",
			OpenWrt: []string{"riscv64_generic", "riscv64_riscv64"}, Debian: "riscv64", Image: "riscv64"},
		{Name: "linux/loong64", OS: "linux", Arch: "loong64", Profile: Router, Add: extras, Reason: "LoongArch of the new world: Linux 5.19 or later",
			OpenWrt: []string{"loongarch64_generic"}, Debian: "loong64", Image: "loong64"},
		{Name: "android/arm64", OS: "android", Arch: "arm64", Profile: Full, Reason: "Termux; the other Androids need a C compiler", Termux: "aarch64"},
		{Name: "windows/amd64", OS: "windows", Arch: "amd64", Profile: Full, Reason: "Windows 10 or later"},
		{Name: "windows/386", OS: "windows", Arch: "386", Float: "sse2", Profile: Full, Reason: "32-bit Windows 10"},
		{Name: "windows/arm64", OS: "windows", Arch: "arm64", Profile: Full, Reason: "Windows on ARM"},
		{Name: "darwin/amd64", OS: "darwin", Arch: "amd64", Profile: Full, Reason: "Macs with Intel processors, macOS 12 or later"},
		{Name: "darwin/arm64", OS: "darwin", Arch: "arm64", Profile: Full, Reason: "Macs with Apple processors"},
		{Name: "freebsd/amd64", OS: "freebsd", Arch: "amd64", Profile: Full, Reason: "servers, firewalls such as OPNsense"},
		{Name: "freebsd/arm64", OS: "freebsd", Arch: "arm64", Profile: Full, Reason: "FreeBSD on ARM servers and boards"},
	}
}

// File returns the target's name as a part of a file name: "linux-mipsle".
func (t Target) File() string { return strings.ReplaceAll(t.Name, "/", "-") }

// Tags returns the build tags.
func (t Target) Tags() string {
	// The parser's generator of manuals and its own suggestions are never used, nor HTTP/2 of net/http: ours is tunnel/h2.
	tags := "urfave_cli_no_docs,urfave_cli_no_suggest,nethttpomithttp2"
	if t.Profile == Router {
		tags += ",ztm_router"
	}
	for _, f := range t.Omit {
		tags += ",ztm_omit_" + f
	}
	for _, f := range t.Add {
		tags += ",ztm_add_" + f
	}
	return tags
}

// Env returns what the target adds to the environment of the go command. What it does not set
// itself is set to its default, so that the environment of who builds does not matter.
func (t Target) Env() []string {
	env := map[string]string{
		"CGO_ENABLED": "0", "GOOS": t.OS, "GOARCH": t.Arch, "GOFLAGS": "", "GOEXPERIMENT": "", "GOFIPS140": "off",
		"GO386": "sse2", "GOAMD64": "v1", "GOARM": "5", "GOARM64": "v8.0", "GOMIPS": "softfloat", "GOMIPS64": "softfloat", "GORISCV64": "rva20u64",
	}
	if variable, ok := map[string]string{"386": "GO386", "arm": "GOARM", "mips": "GOMIPS", "mipsle": "GOMIPS", "mips64": "GOMIPS64", "mips64le": "GOMIPS64"}[t.Arch]; ok {
		env[variable] = t.Float
	}
	var out []string
	for name, value := range env {
		out = append(out, name+"="+value)
	}
	return out
}

// talkers are packages that talk, parse and decide but do not compute. Functions of theirs that are
// not copied into their callers are slower by what nobody can measure, and the binary is smaller by
// a fifteenth. What computes stays as it is: without inlining, a TLS handshake on MIPS takes five
// times as long. Of the packages below crypto/internal only those are here that no connection
// between ztm and ztm uses: its keys are Ed25519 and X25519MLKEM768.
var talkers = []string{"ztm", "ztm/...", "github.com/...", "go.etcd.io/...", "go.yaml.in/...", "golang.org/x/...",
	"bufio", "bytes", "compress/...", "context", "crypto/ecdh", "crypto/ecdsa", "crypto/ed25519", "crypto/elliptic", "crypto/hkdf",
	"crypto/hpke", "crypto/internal/fips140/bigmod", "crypto/internal/fips140/ecdh", "crypto/internal/fips140/ecdsa",
	"crypto/internal/fips140/nistec/...", "crypto/internal/fips140/rsa", "crypto/mlkem", "crypto/rand", "crypto/rsa", "crypto/sha3", "crypto/tls",
	"crypto/x509/...", "encoding/...", "errors", "flag", "fmt", "internal/bisect", "internal/godebug", "internal/poll",
	"internal/reflectlite", "internal/singleflight", "internal/strconv", "io/...", "log/...", "math/big", "math/rand", "mime/...", "net",
	"net/...", "os/...", "path/...", "reflect", "regexp/...", "sort", "strconv", "strings", "syscall", "text/...", "time", "unique",
	"vendor/golang.org/x/crypto/cryptobyte", "vendor/golang.org/x/net/...", "vendor/golang.org/x/text/..."}

// noDWARF leaves out what a debugger reads. The linker strips it anyway; not to make it saves a
// tenth of the compiler's time.
const noDWARF = " -dwarf=false"

// CompilerFlags returns the arguments for the go command that say how packages are compiled: for
// the router profile, that speed is traded for size where it does not matter. The last that matches
// a package counts. With debug, what a debugger reads is made.
func (t Target) CompilerFlags(debug bool) []string {
	flags := noDWARF
	if debug {
		flags = ""
	}
	out := []string{"-gcflags=all=" + flags}
	if t.Profile == Router {
		for _, p := range talkers {
			out = append(out, "-gcflags="+p+"=-l"+flags)
		}
	}
	return out
}
