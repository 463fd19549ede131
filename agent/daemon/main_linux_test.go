package daemon

import (
	"os"
	"os/exec"
	"testing"
)

func TestSignalsThatWereBlockedAtTheStartAreNotBlockedInPrograms(t *testing.T) {
	if err := exec.Command("env", "--block-signal=USR1", "true").Run(); err != nil {
		t.Skip("env(1) cannot block signals here")
	}
	cmd := exec.Command("env", "--block-signal=USR1", os.Args[0])
	cmd.Env = append(os.Environ(), asRole+"=grep SigBlk /proc/self/status")
	out, err := cmd.CombinedOutput()
	if want := "SigBlk:\t0000000000000000\n"; err != nil || string(out) != want {
		t.Errorf("%v: %s", err, out)
	}
}
