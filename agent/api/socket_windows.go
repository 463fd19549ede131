package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxAddrFile is the longest agent.addr that makes sense, in bytes.
const maxAddrFile = 1024

// location is the file that says where the agent listens and what the token is: "127.0.0.1:49152 TOKEN\n". It inherits
// the access list of the data directory, which lies in the user's profile.
func location(dir string) string { return filepath.Join(dir, "agent.addr") }

func dial(ctx context.Context, dir string) (net.Conn, string, error) {
	b, err := os.ReadFile(location(dir))
	if err != nil {
		return nil, "", err
	}
	fields := strings.Fields(string(b))
	if len(b) > maxAddrFile || len(fields) != 2 {
		return nil, "", fmt.Errorf("%s: want an address and a token", location(dir))
	}
	host, _, err := net.SplitHostPort(fields[0])
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, "", fmt.Errorf("%s: %q is not a loopback address", location(dir), fields[0])
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", fields[0])
	return c, fields[1], err
}

func listen(dir string) (net.Listener, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	token := rand.Text()
	path := location(dir)
	if err := os.WriteFile(path+".new", []byte(l.Addr().String()+" "+token+"\n"), 0o600); err != nil {
		l.Close()
		return nil, "", err
	}
	if err := os.Rename(path+".new", path); err != nil {
		l.Close()
		return nil, "", err
	}
	return &listener{Listener: l, path: path}, token, nil
}

// listener removes the file with the address when it is closed.
type listener struct {
	net.Listener
	path string
	once sync.Once
}

func (l *listener) Close() error {
	l.once.Do(func() { os.Remove(l.path) })
	return l.Listener.Close()
}
