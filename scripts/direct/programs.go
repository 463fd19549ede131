//go:build linux

package main

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"
	"ztm/scripts/hop"
)

// What this program is at a place of the world.

// target sends as many bytes as it is asked for, and keeps a connection open that asks for less than
// none.
func target(address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	go repeat(packets) // ends with the program
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() { // ends with its connection
			defer c.Close()
			var n int64
			if binary.Read(c, binary.BigEndian, &n) != nil {
				return
			}
			if n < 0 {
				io.Copy(io.Discard, c)
			}
			io.CopyN(c, zeros{}, n)
		}()
	}
}

// repeat sends datagrams back.
func repeat(c net.PacketConn) {
	b := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		c.WriteTo(b[:n], from)
	}
}

// packetSize is that of a datagram, in bytes.
const packetSize = 1000

// speak sends datagrams, one for each that comes back or is missing, and prints which
// part of them came back. With less than none it goes on for good.
func speak(address string, count int) error {
	c, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	came, b := 0, make([]byte, packetSize)
	for i := 0; i != count; i++ {
		if _, err := c.Write(b); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Read(b); err == nil {
			came++
		}
		if count < 0 {
			<-time.After(100 * time.Millisecond)
		}
	}
	fmt.Println(float64(came) / float64(count))
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// client asks a target for bytes, and reads them.
func client(address string, size int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := binary.Write(c, binary.BigEndian, size); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c)
	if err == nil && n != max(size, 0) {
		err = fmt.Errorf("%d of %d bytes came", n, size)
	}
	return err
}

// medianOf does something that takes a time, one after the other, and prints the median of that.
func medianOf(count int, do func() error) error {
	var took []time.Duration
	for range count {
		began := time.Now()
		if err := do(); err != nil {
			return err
		}
		took = append(took, time.Since(began))
	}
	fmt.Println(median(took))
	return nil
}

// firstByte opens a connection, and asks for a byte.
func firstByte(address string) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err = binary.Write(c, binary.BigEndian, int64(1)); err == nil {
		_, err = io.ReadFull(c, make([]byte, 1))
	}
	return err
}

// refused dials where nobody listens.
func refused(address string) error {
	c, err := net.Dial("tcp", address)
	if err == nil {
		c.Close()
		return fmt.Errorf("somebody listens at %s", address)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = nil
	}
	return err
}

// relay is a hop: ADDRESS,TARGET and how: plain, seal (what comes, towards the target) or open.
func relay(words string) error {
	w := strings.Split(words, ",")
	ln, err := net.Listen("tcp", w[0])
	if err != nil {
		return err
	}
	switch w[2] {
	case "seal":
		return hop.Serve(ln, w[1], hop.Seal, hop.Open)
	case "open":
		return hop.Serve(ln, w[1], hop.Open, hop.Seal)
	}
	return hop.Serve(ln, w[1], hop.Plain, hop.Plain)
}

// median returns that of some figures; zero if there are none.
func median[T cmp.Ordered](of []T) (m T) {
	if len(of) > 0 {
		m = slices.Sorted(slices.Values(of))[len(of)/2]
	}
	return m
}
