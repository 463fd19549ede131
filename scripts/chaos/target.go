//go:build linux

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is behind all tunnels. A flow begins with a line of a word, which no other flow has, and a number:
//
//	WORD 0     "ok WORD" is answered
//	WORD n     n bytes are answered, and the line of their hash
//	WORD -1    every byte is
type target struct {
	ln  net.Listener
	log *journal

	mu   sync.Mutex
	seen map[string]int // how often a word came
}

func newTarget(log *journal) (*target, error) {
	ln, err := net.Listen("tcp", observer+":0")
	if err != nil {
		return nil, err
	}
	t := &target{ln: ln, log: log, seen: map[string]int{}}
	go t.serve() // ends with the listener
	return t, nil
}

func (t *target) serve() {
	for {
		c, err := t.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go t.flow(c) // ends with its connection
		}
	}
}

func (t *target) flow(c net.Conn) {
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	word, number, ok := strings.Cut(strings.TrimSpace(line), " ")
	n, bad := strconv.Atoi(number)
	if err != nil || !ok || bad != nil {
		return
	}
	t.mu.Lock()
	t.seen[word]++
	times := t.seen[word]
	t.mu.Unlock()
	t.log.check("I7", times == 1, "flow %s came %d times", word, times)
	c.SetReadDeadline(time.Time{})
	switch {
	case n == 0:
		fmt.Fprintf(c, "ok %s\n", word)
	case n < 0:
		io.Copy(c, r)
	default:
		hash := sha256.New()
		io.CopyN(io.MultiWriter(c, hash), rand.NewChaCha8(sha256.Sum256([]byte(word))), int64(n))
		fmt.Fprintln(c, hex.EncodeToString(hash.Sum(nil)))
	}
}
