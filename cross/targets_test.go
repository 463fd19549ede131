package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestTargetsAreKnownToGo(t *testing.T) {
	list, err := exec.Command("go", "tool", "dist", "list").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields(string(list))
	for _, target := range Targets() {
		if !slices.Contains(known, target.OS+"/"+target.Arch) {
			t.Errorf("%s: Go has no %s/%s", target.Name, target.OS, target.Arch)
		}
		if target.Reason == "" || target.Profile != Full && target.Profile != Router {
			t.Errorf("%s: profile %q, reason %q", target.Name, target.Profile, target.Reason)
		}
	}
}

func TestNamesBelongToOneTarget(t *testing.T) {
	owner := map[string]string{}
	for _, target := range Targets() {
		names := []string{"target " + target.Name}
		for _, n := range target.OpenWrt {
			names = append(names, "OpenWrt "+n)
		}
		for kind, n := range map[string]string{"Debian ": target.Debian, "Termux ": target.Termux, "image ": target.Image} {
			if n != "" {
				names = append(names, kind+n)
			}
		}
		for _, n := range names {
			if other, ok := owner[n]; ok {
				t.Errorf("%s is both %s and %s", n, other, target.Name)
			}
			owner[n] = target.Name
		}
	}
	if got := len(Targets()); got != 19 {
		t.Errorf("%d targets, want 19", got)
	}
}

func TestMIPSNeedsNoFloatingPointUnit(t *testing.T) {
	for _, target := range Targets() {
		if !strings.HasPrefix(target.Arch, "mips") {
			continue
		}
		variable := "GOMIPS=softfloat"
		if strings.HasPrefix(target.Arch, "mips64") {
			variable = "GOMIPS64=softfloat"
		}
		if !slices.Contains(target.Env(), variable) {
			t.Errorf("%s is not built with %s", target.Name, variable)
		}
	}
}

func TestTheChoiceOfTargets(t *testing.T) {
	budgets := []budget{{target: "linux/amd64", profile: Full}, {target: "linux/mipsle", profile: Router}}
	for _, tt := range []struct {
		name, only string
		profile    Profile
		check      bool
		want, err  string
	}{
		{name: "one", only: "linux/mipsle", want: "linux/mipsle:router"},
		{name: "two", only: "linux/mipsle,windows/amd64", want: "linux/mipsle:router windows/amd64:full"},
		{name: "another profile", only: "linux/amd64", profile: Router, want: "linux/amd64:router"},
		{name: "with budgets", check: true, want: "linux/amd64:full linux/mipsle:router"},
		{name: "no such target", only: "plan9/mips", err: `unknown target "plan9/mips": see -list`},
		{name: "no such profile", profile: "tiny", err: `unknown profile "tiny": there are full and router`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			targets, err := choose(tt.only, tt.profile, tt.check, budgets)
			if err != nil || tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v, want %s", err, tt.err)
				}
				return
			}
			var got []string
			for _, target := range targets {
				got = append(got, target.Name+":"+string(target.Profile))
			}
			slices.Sort(got)
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
