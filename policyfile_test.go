package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPolicyFileIsTestedAndComparedWithoutAnAgent(t *testing.T) {
	const six = "agent/policy/file/testdata/six.yaml"
	b, err := os.ReadFile(six)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("ZTM_DATA", filepath.Join(dir, "none"))
	write := func(name, old, new string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Replace(string(b), old, new, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	more, wrong := write("more.yaml", "[alice, bob]", "[alice, bob, eve]"), write("wrong.yaml", "{can: ci, ", "{cannot: ci, ")
	bad, bare := write("bad.yaml", "base: 41", "bass: 41"), filepath.Join(dir, "bare.yaml")
	if err := os.WriteFile(bare, []byte("ztm: policy/1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args, stdin string
		out, errs   []string
		status      int
	}{
		{"-f " + six, "", []string{"12 tests hold", "6 endpoints, 7 grants"}, nil, 0},
		{"-f -", string(b), []string{"12 tests hold"}, nil, 0},
		{"-f " + more + " --from " + six, "", []string{"+", "eve", "file/read", "router-12", "pizza-read"}, []string{"breakglass is for every endpoint"}, 0},
		{"-o json -f " + six + " --from " + more, "", []string{`"losses"`, `"eve"`}, nil, 0},
		{"-f " + six + " --from " + six, "", []string{"nobody gains or loses anything"}, nil, 0},
		{"-f " + wrong, "", nil, []string{"tests do not hold", "ci can reach kube at cluster-a, by the grant ci-staging"}, 1},
		{"-f " + bad, "", nil, []string{`line 2: the file has no field "bass"`}, 1},
		{"-f " + bare, "", nil, []string{"has no tests"}, 0},
		{"-f " + filepath.Join(dir, "nothing"), "", nil, []string{"nothing"}, 1},
		{"", "", nil, []string{"--file"}, 2},
	} {
		var out, errs bytes.Buffer
		status := run(append([]string{"ztm", "policy", "test"}, strings.Fields(test.args)...), strings.NewReader(test.stdin), &out, &errs)
		if status != test.status {
			t.Errorf("ztm policy test %s: status %d: %s", test.args, status, errs.String())
		}
		for _, want := range test.out {
			if !strings.Contains(out.String(), want) {
				t.Errorf("ztm policy test %s prints no %q:\n%s", test.args, want, out.String())
			}
		}
		for _, want := range test.errs {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("ztm policy test %s says no %q:\n%s", test.args, want, errs.String())
			}
		}
	}
}
