package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sample is a release whose program is a few bytes.
var (
	sample  = Release{Version: "v1.2.3-rc.1", Built: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Manual: []artifact{{"ztm.1.gz", []byte("a page")}}}
	program = []byte("\x7fELF and so on.")
	licence = []byte("Apache\n")
)

// target returns the target of that name.
func target(t *testing.T, name string) Target {
	t.Helper()
	for _, x := range Targets() {
		if x.Name == name {
			return x
		}
	}
	t.Fatalf("no target %s", name)
	return Target{}
}

// untar reads a compressed tar archive: "mode path" -> content, or "mode path -> destination".
func untar(t *testing.T, data []byte) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			content = []byte("-> " + h.Linkname)
		}
		if owned := h.Uid == 0 && h.Gid == 0 || h.Name == "var/lib/ztm/" && h.Uid == h.Gid; !h.ModTime.Equal(sample.Built) || !owned {
			t.Errorf("%s: %v, owner %d:%d", h.Name, h.ModTime, h.Uid, h.Gid)
		}
		out[fmt.Sprintf("%04o %s", h.Mode, h.Name)] = string(content)
	}
}

func TestTheArchiveForPeople(t *testing.T) {
	name, data, err := sample.bundle(target(t, "linux/mipsle"), program, licence)
	if err != nil || name != "ztm-v1.2.3-rc.1-linux-mipsle.tar.gz" {
		t.Fatalf("%s, %v", name, err)
	}
	base := "ztm-v1.2.3-rc.1-linux-mipsle"
	want := map[string]string{
		"0755 " + base + "/": "", "0755 " + base + "/ztm": string(program), "0644 " + base + "/LICENSE": "Apache\n",
		"0777 " + base + "/ztm-agent": "-> ztm", "0777 " + base + "/ztm-hub": "-> ztm",
	}
	if diff := cmp.Diff(want, untar(t, data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, again, err := sample.bundle(target(t, "linux/mipsle"), program, licence)
	if err != nil || !bytes.Equal(data, again) {
		t.Errorf("a second time it is another, %v", err)
	}
}

func TestTheArchiveForWindows(t *testing.T) {
	name, data, err := sample.bundle(target(t, "windows/amd64"), program, licence)
	if err != nil || name != "ztm-v1.2.3-rc.1-windows-amd64.zip" {
		t.Fatalf("%s, %v", name, err)
	}
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := r.Open("ztm-v1.2.3-rc.1-windows-amd64/ztm.exe")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, program) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestPackagesForOpenWrt(t *testing.T) {
	all, err := sample.ipks(target(t, "linux/mips"), program)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d packages, %v", len(all), err)
	}
	if all[0].name != "ztm_1.2.3~rc.1_mips_24kc.ipk" {
		t.Errorf("name %s", all[0].name)
	}
	outer := untar(t, all[0].data)
	if outer["0644 ./debian-binary"] != "2.0\n" {
		t.Errorf("it is no package: %v", outer)
	}
	control := untar(t, []byte(outer["0644 ./control.tar.gz"]))
	for _, want := range []string{"Package: ztm\n", "Version: 1.2.3~rc.1\n", "Architecture: mips_24kc\n"} {
		if !strings.Contains(control["0644 ./control"], want) {
			t.Errorf("no %q in:\n%s", want, control["0644 ./control"])
		}
	}
	if control["0644 ./conffiles"] != "/etc/config/ztm\n" {
		t.Error("an upgrade would overwrite the configuration")
	}
	data := untar(t, []byte(outer["0644 ./data.tar.gz"]))
	for path, want := range map[string]string{
		"0755 ./usr/bin/ztm": string(program), "0777 ./usr/bin/ztm-hub": "-> ztm", "0755 ./etc/": "",
		"0755 ./etc/init.d/ztm-agent": "PROGRAM=/usr/bin/ztm\nROLE=agent\n", "0755 ./etc/init.d/ztm-hub": "ROLE=hub\n",
		"0600 ./etc/config/ztm": "option enabled '0'", "0644 ./lib/upgrade/keep.d/ztm-hub": "/etc/ztm/\n",
	} {
		if got, ok := data[path]; !ok || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func TestPackagesForDebian(t *testing.T) {
	for name, want := range map[string]string{"linux/armv7": "ztm_1.2.3~rc.1_armhf.deb", "linux/loong64": "ztm_1.2.3~rc.1_loong64.deb"} {
		all, err := sample.deb(target(t, name), program, licence)
		if err != nil || len(all) != 1 || all[0].name != want {
			t.Fatalf("%v, %v", all, err)
		}
		inspectDeb(t, all[0], "./usr/bin/ztm", "./usr/share/man/man1/ztm.1.gz")
	}
	for _, name := range []string{"android/arm64", "linux/arm5"} {
		all, err := sample.termux(target(t, name), program, licence)
		if err != nil || len(all) != 1 {
			t.Fatalf("%v, %v", all, err)
		}
		inspectDeb(t, all[0], "./data/data/com.termux/files/usr/bin/ztm", "./data/data/com.termux/files/usr/share/man/man1/ztm.1.gz")
	}
	if all, err := sample.deb(target(t, "darwin/arm64"), program, licence); err != nil || len(all) != 0 {
		t.Errorf("a Mac gets %v, %v", all, err)
	}
}

// inspectDeb lets dpkg judge the package.
func inspectDeb(t *testing.T, a artifact, binary, page string) {
	t.Helper()
	tool, err := exec.LookPath("dpkg-deb")
	if err != nil {
		t.Skip("dpkg-deb is not installed")
	}
	path := filepath.Join(t.TempDir(), a.name)
	if err := os.WriteFile(path, a.data, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "--field", path, "Package", "Version").CombinedOutput()
	if err != nil || string(out) != "Package: ztm\nVersion: 1.2.3~rc.1\n" {
		t.Errorf("%s: %v: %s", a.name, err, out)
	}
	out, err = exec.Command(tool, "--contents", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), " "+binary+"\n") || !strings.Contains(string(out), binary+"-hub -> ztm\n") || !strings.Contains(string(out), " "+page+"\n") {
		t.Errorf("%s: %v: %s", a.name, err, out)
	}
}

// TestTheProgramWritesItsManual runs the program of this machine, as a release does.
func TestTheProgramWritesItsManual(t *testing.T) {
	if testing.Short() {
		t.Skip("it links the program")
	}
	pages, err := manual(t.Context(), "..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		if p.name == "ztm-tunnel-open-inbound.1.gz" {
			z, err := gzip.NewReader(bytes.NewReader(p.data))
			if err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(z); err != nil || !bytes.HasPrefix(text, []byte(".TH")) {
				t.Errorf("%.80q, %v", text, err)
			}
			return
		}
	}
	t.Errorf("%d pages, and none of ztm tunnel open inbound", len(pages))
}

func TestTheImageIsOneOfEveryArchitecture(t *testing.T) {
	m := &image{root: t.TempDir()}
	for _, target := range Targets() {
		if err := m.add(sample, target, program); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.finish(sample); err != nil {
		t.Fatal(err)
	}
	var top index
	read(t, filepath.Join(m.root, "index.json"), &top)
	if len(top.Manifests) != 1 || top.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != sample.Version {
		t.Fatalf("index.json: %+v", top)
	}
	var all index
	blob(t, m.root, top.Manifests[0], &all)
	var platforms []string
	for _, d := range all.Manifests {
		platforms = append(platforms, strings.TrimSuffix(d.Platform.Architecture+"/"+d.Platform.Variant, "/"))
		var one manifest
		blob(t, m.root, d, &one)
		var config imageConfig
		blob(t, m.root, one.Config, &config)
		if config.Architecture != d.Platform.Architecture || len(config.Config.Entrypoint) != 1 {
			t.Errorf("%v: config %+v", d.Platform, config)
		}
		layer := blob(t, m.root, one.Layers[0], nil)
		if owner := owners(t, layer)["var/lib/ztm/"]; config.Config.User != "65532:65532" || owner != 65532 {
			t.Errorf("%v: the user is %q, and its data are of %d", d.Platform, config.Config.User, owner)
		}
		if got := untar(t, layer)["0755 usr/bin/ztm"]; got != string(program) {
			t.Errorf("%v: the program is %q", d.Platform, got)
		}
		z, err := gzip.NewReader(bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(h, z); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("sha256:%x", h.Sum(nil)); len(config.RootFS.DiffIDs) != 1 || config.RootFS.DiffIDs[0] != got {
			t.Errorf("%v: diff_ids %v, want %s", d.Platform, config.RootFS.DiffIDs, got)
		}
	}
	want := []string{"amd64", "386", "arm64/v8", "arm/v7", "arm/v5", "mips64le", "riscv64", "loong64"}
	if diff := cmp.Diff(want, platforms); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// owners returns whose the entries of a compressed archive are.
func owners(t *testing.T, packed []byte) map[string]int {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = h.Uid
	}
}

func read(t *testing.T, path string, v any) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if v != nil {
		if err := json.Unmarshal(data, v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
	return data
}

// blob reads a blob and checks that it is what the descriptor says.
func blob(t *testing.T, root string, d descriptor, v any) []byte {
	t.Helper()
	data := read(t, filepath.Join(root, "blobs", strings.Replace(d.Digest, ":", "/", 1)), v)
	if got := fmt.Sprintf("sha256:%x", sha256.Sum256(data)); got != d.Digest || int64(len(data)) != d.Size {
		t.Errorf("blob %s: %s, %d bytes, want %d", d.Digest, got, len(data), d.Size)
	}
	return data
}
