package freeport

import (
	"runtime"
	"testing"
)

func TestAPortThatIsLeasedIsGivenToNobodyElse(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("leases hold on Linux alone")
	}
	first, release, err := Lease(3)
	if err != nil {
		t.Fatal(err)
	}
	for port := first; port < first+3; port++ {
		if _, err := lease(port, 1); err == nil {
			t.Errorf("port %d was leased twice", port)
		}
	}
	release()
	if again, err := lease(first, 3); err != nil {
		t.Errorf("the ports were not given back: %v", err)
	} else {
		again()
	}
}
