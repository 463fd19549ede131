package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"
)

// What a target speaks. Over TCP it says its process ID (8 bytes), then the client the kind of its flow (1 byte):
//
//	requests  4 bytes of length and so many others; the answer is their hash; and again
//	stream    8 bytes of seed, then bytes until the end of the direction. Meanwhile the target sends pieces of its own stream:
//	          4 bytes of length and so many others. A length of zero is the last, and after it come the number (8 bytes) and
//	          the hash of the bytes that it got.
//
// Over UDP it sends each datagram back with its process ID before it. Numbers are big-endian, hashes SHA-256.

const (
	requests = 'r'
	stream   = 's'

	maxRequest = 16 << 10
	// pieceSize and pieceEvery make a stream of 1 MB/s.
	pieceSize  = 20_000
	pieceEvery = 20 * time.Millisecond
)

// source returns the bytes of one direction of a stream.
func source(seed uint64, down bool) *rand.ChaCha8 {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	if down {
		key[31] = 1
	}
	return rand.NewChaCha8(key)
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// serveTarget serves TCP and UDP at one address until ctx ends.
func serveTarget(ctx context.Context, address string) error {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	packets, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	fmt.Println("listens")
	go echo(packets) // ends with the process
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serve(c.(*net.TCPConn))
	}
}

func echo(packets net.PacketConn) {
	buf := make([]byte, 1<<16)
	n := copy(buf, number(uint64(os.Getpid())))
	for {
		size, from, err := packets.ReadFrom(buf[n:])
		if err == nil {
			packets.WriteTo(buf[:n+size], from)
		}
	}
}

func serve(c *net.TCPConn) {
	defer c.Close()
	r := bufio.NewReader(c)
	if _, err := c.Write(number(uint64(os.Getpid()))); err != nil {
		return
	}
	switch kind, _ := r.ReadByte(); kind {
	case requests:
		answerRequests(c, r)
	case stream:
		answerStream(c, r)
	}
}

func answerRequests(c net.Conn, r io.Reader) {
	var size [4]byte
	buf := make([]byte, maxRequest)
	for {
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return
		}
		p := buf[:min(binary.BigEndian.Uint32(size[:]), maxRequest)]
		if _, err := io.ReadFull(r, p); err != nil {
			return
		}
		sum := sha256.Sum256(p)
		if _, err := c.Write(sum[:]); err != nil {
			return
		}
	}
}

func answerStream(c net.Conn, r io.Reader) {
	var seed [8]byte
	if _, err := io.ReadFull(r, seed[:]); err != nil {
		return
	}
	var got int64
	sum := sha256.New()
	ended := make(chan struct{}) // closed when got and sum are right
	go func() {                  // ends with the connection
		defer close(ended)
		got, _ = io.Copy(sum, r)
	}()
	own, piece := source(binary.BigEndian.Uint64(seed[:]), true), make([]byte, 4+pieceSize)
	binary.BigEndian.PutUint32(piece, pieceSize)
	tick := time.NewTicker(pieceEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			own.Read(piece[4:])
			if _, err := c.Write(piece); err != nil {
				return
			}
		case <-ended:
			c.Write(append(append(make([]byte, 4), number(uint64(got))...), sum.Sum(nil)...))
			return
		}
	}
}
