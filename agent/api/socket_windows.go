package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"ztm/store/private"
)

// maxAddrFile is the longest agent.addr that makes sense, in bytes.
const maxAddrFile = 1024

// location is the file that says where the agent listens and what the token is: "127.0.0.1:49152
// TOKEN\n". Its access list lets this user alone read it.
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
	token := rand.Text()
	path := location(dir)
	l, err := newLasting(func() (net.Listener, error) { return open(path, token) }, func() bool { return there(path) }, lookEvery)
	if err != nil {
		return nil, "", err
	}
	return l, token, nil
}

// open listens on a port and writes the file that says which. The file is for this user alone
// before the token is in it.
func open(path, token string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	if err := writePrivate(path, []byte(l.Addr().String()+" "+token+"\n")); err != nil {
		l.Close()
		return nil, err
	}
	return &listener{Listener: l, path: path}, nil
}

func writePrivate(path string, b []byte) error {
	temporary := path + ".new"
	os.Remove(temporary) // a leftover
	if err := os.WriteFile(temporary, nil, 0o600); err != nil {
		return err
	}
	err := private.File(temporary)
	if err == nil {
		err = os.WriteFile(temporary, b, 0o600)
	}
	if err == nil {
		err = os.Rename(temporary, path)
	}
	return err
}
