package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestBudgetsAreForTargetsThatExist(t *testing.T) {
	budgets, err := parseBudgets(budgetsFile)
	if err != nil || len(budgets) == 0 {
		t.Fatalf("%d budgets, %v", len(budgets), err)
	}
	for _, b := range budgets {
		found := false
		for _, target := range Targets() {
			found = found || target.Name == b.target && target.Profile == b.profile
		}
		if !found {
			t.Errorf("nothing is built for the budget of %s in profile %s", b.target, b.profile)
		}
	}
}

func TestWhatIsOverItsBudgetIsNamed(t *testing.T) {
	budgets, err := parseBudgets("# comment\nlinux/mipsle router 100 50 # why\n\nlinux/amd64 full 1000 -\n")
	if err != nil {
		t.Fatal(err)
	}
	mipsle, amd64 := Target{Name: "linux/mipsle", Profile: Router}, Target{Name: "linux/amd64", Profile: Full}
	for _, tt := range []struct {
		name  string
		sizes []size
		want  string
	}{
		{"within", []size{{mipsle, 100, 50}, {amd64, 1000, 9999}}, ""},
		{"without xz", []size{{mipsle, 100, 0}}, ""},
		{"another profile", []size{{Target{Name: "linux/mipsle", Profile: Full}, 101, 51}}, ""},
		{"raw", []size{{mipsle, 107, 50}}, "linux/mipsle, profile router: 107 bytes, 7 more than its budget"},
		{"xz", []size{{mipsle, 100, 52}}, "linux/mipsle, profile router: 52 bytes after xz, 2 more than its budget"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := checkSizes(budgets, tt.sizes); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestABudgetThatMakesNoSenseIsAnError(t *testing.T) {
	for _, text := range []string{"linux/mipsle router 10", "linux/mipsle router ten 3", "a b 1 2 3"} {
		if _, err := parseBudgets(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestTheTableSaysWhyAColumnIsEmpty(t *testing.T) {
	var out bytes.Buffer
	if err := printSizes(&out, []size{{Target{Name: "linux/mips", Profile: Router, Reason: "routers"}, 12, 0}}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "linux/mips  router   12     -   routers") || !strings.Contains(out.String(), "XZ was not measured") {
		t.Errorf("got:\n%s", out.String())
	}
}
