package service

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ztm/apps/appstest"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// specs are services as people want them, by the name of their golden file.
func specs() map[string]Spec {
	return map[string]Spec{
		"agent": {Role: "agent", Exe: "/usr/local/bin/ztm", Data: "/etc/ztm", Options: []string{"--data=/etc/ztm", "--log-level=debug"}, Home: "/root"},
		"hub": {Role: "hub", Exe: "/usr/local/bin/ztm", Data: "/srv/ztm", Account: "ztm", Writes: []string{"/root"}, Home: "/root",
			Options: []string{"--data=/srv/ztm", "--names=hub.example.com:8888", "--names=[2001:db8::1]:8888", "--permit=/root/root.json"}},
		// Everything that is special to some reader.
		"odd": {Role: "agent", Exe: "/opt/my apps/z'tm", Data: `/srv/100% "sure" & $HOME`, Home: "/root",
			Options: []string{`--data=/srv/100% "sure" & $HOME`, `--join-as=<a>;'b' \ c`}},
	}
}

func ownSpec() Spec {
	return Spec{Role: "agent", Exe: "/home/me/bin/ztm", Data: "/home/me/.ztm", Options: []string{"--data=/home/me/.ztm"},
		Own: true, Home: "/home/me", Prefix: "/data/data/com.termux/files/usr"}
}

func TestPlansAreAsWritten(t *testing.T) {
	for _, sys := range Systems() {
		all := specs()
		if sys.Own {
			all["own"] = ownSpec()
		}
		for name, spec := range all {
			if sys.Name == "termux" && name == "hub" {
				continue // has no accounts
			}
			if sys.Name == "termux" {
				spec.Prefix = ownSpec().Prefix
			}
			t.Run(sys.Name+"/"+name, func(t *testing.T) {
				var got bytes.Buffer
				if err := sys.Plan(spec).Print(&got); err != nil {
					t.Fatal(err)
				}
				golden(t, filepath.Join("testdata", sys.Name+"-"+name+".txt"), got.Bytes())
			})
		}
	}
}

func TestAHubThatIsToldNothingHasAnAccountOfItsOwn(t *testing.T) {
	s := Spec{Role: "hub", Exe: "/usr/bin/ztm", Data: "/root/.ztm", Options: []string{"--data=/root/.ztm", "--permit=/root/root.json"}, Writes: []string{"/root"}}
	sys, err := SystemNamed("systemd")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.shutIn(sys, false); got != "/root/root.json" {
		t.Errorf("the permit goes to %q", got)
	}
	var got bytes.Buffer
	if err := sys.Plan(s).Print(&got); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/systemd-dynamic.txt", got.Bytes())
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

// files writes what the plan of each spec writes below a directory, and returns the paths of those
// that match.
func files(t *testing.T, system, pattern string) []string {
	t.Helper()
	sys, err := SystemNamed(system)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for name, spec := range specs() {
		spec.Prefix = ownSpec().Prefix
		for _, f := range sys.Plan(spec).Files {
			if ok, _ := filepath.Match(pattern, filepath.Base(filepath.Dir(f.Path))+"/"+filepath.Base(f.Path)); !ok {
				continue
			}
			f.Path = filepath.Join(t.TempDir(), name, f.Path)
			if err := f.write(); err != nil {
				t.Fatal(err)
			}
			out = append(out, f.Path)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s writes no %s", system, pattern)
	}
	return out
}

func TestSystemdUnderstandsTheUnits(t *testing.T) {
	appstest.Long(t)
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	exe := filepath.Join(t.TempDir(), "ztm") // the program has to be there
	if err := os.WriteFile(exe, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	all := specs()
	all["dynamic"] = Spec{Role: "hub", Data: dynamicData, Dynamic: true}
	for name, spec := range all {
		spec.Exe = exe
		f := systemd(spec).Files[0]
		f.Path = filepath.Join(t.TempDir(), name+".service")
		if err := f.write(); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", "--man=no", f.Path).CombinedOutput()
		if about := regexp.MustCompile(`(?m)^.*`+name+`\.service.*$`).FindAll(out, -1); err != nil || len(about) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestPropertyListsAreXML(t *testing.T) {
	for _, f := range files(t, "launchd", "*/*.plist") {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		keys := 0
		for d := xml.NewDecoder(bytes.NewReader(b)); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", f, err)
			}
			if e, ok := token.(xml.StartElement); ok && e.Name.Local == "key" {
				keys++
			}
		}
		if keys < 7 {
			t.Errorf("%s: only %d keys", f, keys)
		}
	}
}

// TestPropertyListsSayWhatTheSpecSays has them read by a program that knows the format.
func TestPropertyListsSayWhatTheSpecSays(t *testing.T) {
	appstest.Long(t)
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	const read = "import json,plistlib,sys; print(json.dumps(plistlib.load(open(sys.argv[1],'rb'))))"
	for name, spec := range specs() {
		f := launchd(spec).Files[0]
		f.Path = filepath.Join(t.TempDir(), "x.plist")
		if err := f.write(); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, "-c", read, f.Path).Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got struct {
			Label, UserName      string
			ProgramArguments     []string
			RunAtLoad, KeepAlive bool
		}
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		if !got.RunAtLoad || !got.KeepAlive || got.Label != "io.ztm."+spec.Role || got.UserName != spec.Account {
			t.Errorf("%s: %+v", name, got)
		}
		if diff := cmp.Diff(spec.Command(), got.ProgramArguments); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
