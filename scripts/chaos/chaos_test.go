//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestAMeshKeepsWhatItPromisesWhileThingsBreak is the short run, in a minute and a half.
func TestAMeshKeepsWhatItPromisesWhileThingsBreak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than a minute")
	}
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, program := range []string{"unshare", "ip", "nft", "tc"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	self := filepath.Join(t.TempDir(), "chaos")
	if out, err := exec.Command("go", "build", "-o", self, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(self, "-short").CombinedOutput()
	if t.Logf("%s", out); err != nil {
		t.Error(err)
	}
}
