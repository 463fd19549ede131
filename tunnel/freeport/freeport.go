// Package freeport finds ports of this machine for tests and measurements, which run several
// programs beside each other, in several processes at a time.
//
// A port that was free a moment ago may be taken when a program comes to listen on it. So a port
// is leased: nobody else who asks here gets it before it is given back.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"syscall"
)

// Ports lie between those of known services and those that systems give to connections that go
// out (32768 and above on Linux): no client can take one meanwhile.
const lowest, above = 10240, 32768

var errNoneFree = errors.New("no free ports")

// Lease returns the first of size consecutive ports on which nothing listens at 127.0.0.1, by TCP
// or by UDP. Where the system is Linux, no other caller in this network namespace gets them before
// release, or before this process ends; release is kept until then, else the lease goes with the
// garbage. It may be called at any time from any goroutine.
func Lease(size int) (first int, release func(), err error) {
	for range 1000 {
		first := lowest + rand.IntN(above-lowest-size)
		if release, err := lease(first, size); err == nil {
			return first, release, nil
		}
	}
	return 0, nil, errNoneFree
}

// lease takes certain ports.
func lease(first, size int) (release func(), err error) {
	var held []net.Listener
	release = func() {
		for _, l := range held {
			l.Close()
		}
	}
	for port := first; port < first+size; port++ {
		if runtime.GOOS == "linux" {
			// An abstract socket is a lock that the kernel ends with its process.
			l, err := net.Listen("unix", fmt.Sprintf("@ztm-port-%d", port))
			if err != nil {
				release()
				return nil, err
			}
			held = append(held, l)
		}
		if err := free(port); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// free fails if somebody listens on a port.
//
// A process that begins has for a moment all that this one has open, and a port is taken as long as
// anybody has its socket. So none begins meanwhile. (Elsewhere than on Linux package net holds this
// lock itself.)
func free(port int) error {
	if runtime.GOOS == "linux" {
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	return udp.Close()
}
