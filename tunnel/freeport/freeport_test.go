package freeport

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
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

// A process that begins has for a moment all that this one has open.
func TestALeasedPortIsFreeThoughProgramsBegin(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("leases hold on Linux alone")
	}
	begin := func() { exec.Command(os.Args[0], "-test.run=^$").Run() }
	begin() // the first time package os begins one to see what the kernel can, and locks nothing
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				begin()
			}
		})
	}
	defer running.Wait()
	defer stop()
	for range 200 {
		port, release, err := Lease(1)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		ln.Close()
		release()
	}
}
