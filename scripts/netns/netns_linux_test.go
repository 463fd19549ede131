package netns

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
)

func TestWhatAProcessThatIsGoneHasLeftIsRemovedWithItsPrograms(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("there is no ip")
	}
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	kind := "zt" + strconv.Itoa(os.Getpid()) + "x"
	lives := New(kind, "lives")
	lives.Add("a")
	defer lives.End()
	left := &Net{Prefix: kind + strconv.Itoa(gone.Process.Pid) + "-left"}
	left.Add("a")
	left.Resolv("a", "nameserver 192.0.2.1\n")
	program := exec.Command(left.In("a")[0], append(left.In("a")[1:], "sleep", "1000")...)
	if err := program.Start(); err != nil || left.Err() != nil {
		t.Fatal(err, left.Err())
	}
	for in := ""; in == ""; { // the program is not there at once
		out, err := exec.Command("ip", "netns", "pids", left.Name("a")).CombinedOutput()
		if in = string(out); err != nil {
			t.Fatal(err, in)
		}
	}

	if n := New(kind, "next"); n.Err() != nil {
		t.Fatal(n.Err())
	}
	program.Wait() // or the test has no end
	for _, dir := range []string{namespaces, etc} {
		if _, err := os.Stat(dir + "/" + left.Name("a")); !os.IsNotExist(err) {
			t.Errorf("%s/%s is there: %v", dir, left.Name("a"), err)
		}
	}
	if _, err := os.Stat(namespaces + "/" + lives.Name("a")); err != nil {
		t.Errorf("what belongs to a process that lives is gone: %v", err)
	}
}
