package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"
)

const (
	datagramEvery = 25 * time.Millisecond
	maxContent    = 1400
)

// datagram makes datagram number n: the number, a hash, and what is hashed.
func datagram(n uint64, content []byte) []byte {
	p := number(n)
	sum := sha256.Sum256(append(number(n), content...))
	return append(append(p, sum[:]...), content...)
}

// parseAnswer returns which process sent a datagram back, and its number.
func parseAnswer(p []byte) (target, n uint64, err error) {
	const head = 8 + 8 + sha256.Size
	if len(p) < head {
		return 0, 0, errContent
	}
	target, n = binary.BigEndian.Uint64(p), binary.BigEndian.Uint64(p[8:])
	if !bytes.Equal(p[8:], datagram(n, p[head:])) {
		return 0, 0, errContent
	}
	return target, n, nil
}

// runDatagrams sends numbered datagrams and wants them back in order. When stop is closed it sends on until one sent after that
// is back, so that all before it are back, or lost.
func (f *flow) runDatagrams(m *mesh, stop <-chan struct{}) error {
	conn, err := net.Dial("udp", m.udp)
	if err != nil {
		return err
	}
	defer conn.Close()
	var sent atomic.Uint64
	over := make(chan struct{}) // closed when the receiver has ended
	done := make(chan struct{}) // closed when the sender has ended
	go func() {
		defer close(done)
		f.sendDatagrams(conn, &sent, over)
	}()
	err = f.receiveDatagrams(conn, &sent, stop)
	close(over)
	<-done
	return err
}

func (f *flow) sendDatagrams(conn net.Conn, sent *atomic.Uint64, over <-chan struct{}) {
	content := source(f.seed, false)
	tick := time.NewTicker(datagramEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			conn.Write(datagram(sent.Add(1), bytesOf(content, maxContent))) // one that does not go out is one that is lost
		case <-over:
			return
		}
	}
}

func (f *flow) receiveDatagrams(conn net.Conn, sent *atomic.Uint64, stop <-chan struct{}) error {
	buf := make([]byte, 1<<16)
	var last, end uint64 // the number that came last; the last number before the end
	for end == 0 || last <= end {
		select {
		case <-stop:
			if end == 0 {
				end = sent.Load()
			}
		default:
		}
		conn.SetReadDeadline(time.Now().Add(timeout))
		size, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("nothing comes back after number %d", last)
		}
		if err != nil {
			continue // a port unreachable
		}
		target, n, err := parseAnswer(buf[:size])
		if err != nil {
			return err
		}
		if n <= last {
			return fmt.Errorf("number %d came after %d", n, last)
		}
		if f.target == 0 {
			f.target = target
		}
		f.lost += int(n - last - 1)
		f.units++
		f.up += int64(size - 8)
		f.down += int64(size)
		last = n
	}
	return nil
}
