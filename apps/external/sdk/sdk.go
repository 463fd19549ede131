// Package sdk is the Go side of the contract between an app of others and its agent. It needs the
// standard library alone: a module outside of this one copies the directory.
//
//	agent -> descriptor 3: Listen -> http.Handler: From says who asks, Stream takes bytes, Command a command line
//	program -> ZTM_API: Client, Open -> agent
package sdk

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
)

// Listen returns the listener that the agent has handed over. It is called once.
func Listen() (net.Listener, error) {
	f := os.NewFile(3, "ztm") // the first descriptor behind the standard ones, as of systemd
	defer f.Close()
	return net.FileListener(f)
}

// Data returns the one directory that the app may write to.
func Data() string { return os.Getenv("ZTM_DATA") }

// Caller is who asks. The agent says so, from the certificate of the session; nobody else can.
type Caller struct {
	ID     string // of the endpoint
	User   string
	Source string // "self", "user" for another endpoint of the same user, "peer"
}

// From returns who sends a request.
func From(r *http.Request) Caller {
	return Caller{ID: r.Header.Get("Ztm-Peer-Id"), User: r.Header.Get("Ztm-Peer-User"), Source: r.Header.Get("Ztm-Source")}
}

// Conn is a flow of bytes. CloseWrite ends one direction and leaves the other.
type Conn interface {
	net.Conn
	CloseWrite() error
}

// Stream agrees to a request with `Upgrade: ztm`, which then goes on as bytes. The caller closes the
// connection. Where the request asks for something else it is answered with an error.
func Stream(w http.ResponseWriter, r *http.Request) (Conn, error) { return agree(w, r, "ztm") }

// agree answers 101.
func agree(w http.ResponseWriter, r *http.Request, protocol string) (Conn, error) {
	if r.Header.Get("Upgrade") != protocol {
		w.WriteHeader(http.StatusUpgradeRequired)
		io.WriteString(w, "this is for a request with Upgrade: "+protocol+"\n")
		return nil, fmt.Errorf("sdk: the request does not ask for %s", protocol)
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, err
	}
	if u, ok := c.(*net.UnixConn); ok {
		u.SetWriteBuffer(writeBuffer) // as much of it as the system allows
	}
	if _, err := io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+protocol+"\r\n\r\n"); err != nil {
		c.Close()
		return nil, err
	}
	return &conn{c, rw.Reader}, nil
}

// writeBuffer is what the kernel holds of a connection for an agent that has not read it yet, in bytes.
const writeBuffer = 512 << 10

// conn is a connection of which the first bytes may have been read.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func (c *conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// CloseWrite implements [Conn].
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Run is a command of the app, `ztm NAME ARG...`. It returns the exit status.
type Run func(from Caller, args []string, stdin io.Reader, stdout, stderr io.Writer) (status int)

// Command returns what answers "/ztm-command".
func Command(run Run) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		from, args := From(r), r.URL.Query()["arg"]
		c, err := agree(w, r, "ztm-command")
		if err != nil {
			return
		}
		defer c.Close()
		status := run(from, args, c, &frames{c, 1}, &frames{c, 2})
		(&frames{c, 3}).Write([]byte{byte(status)})
		c.CloseWrite()
	})
}

// frames writes frames of one kind: 1 is standard output, 2 standard error, 3 the status.
type frames struct {
	w    io.Writer
	kind byte
}

func (f *frames) Write(p []byte) (int, error) {
	head := binary.BigEndian.AppendUint32([]byte{f.kind}, uint32(len(p)))
	if _, err := f.w.Write(append(head, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// dial opens a connection to the agent.
func dial(ctx context.Context, _, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", os.Getenv("ZTM_API"))
}

// Client asks the agent: http://ztm/v1/self, http://ztm/v1/endpoints, and so on.
func Client() *http.Client { return &http.Client{Transport: &http.Transport{DialContext: dial}} }

// Open opens a flow of bytes to this app at another endpoint. ctx governs the opening alone.
func Open(ctx context.Context, endpoint, path string) (Conn, error) {
	c, err := dial(ctx, "", "")
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { c.Close() })()
	target := "http://ztm/v1/open?" + url.Values{"to": {endpoint}, "path": {path}}.Encode()
	r, err := http.NewRequest(http.MethodPost, target, nil)
	if err != nil {
		c.Close()
		return nil, err
	}
	r.Header = http.Header{"Connection": {"Upgrade"}, "Upgrade": {"ztm"}}
	in := bufio.NewReader(c)
	if err = r.Write(c); err == nil {
		err = opened(in, r)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return &conn{c, in}, nil
}

// opened reads the answer to a request for a flow.
func opened(in *bufio.Reader, r *http.Request) error {
	resp, err := http.ReadResponse(in, r)
	if err != nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1024))
	return errors.Join(fmt.Errorf("sdk: %s: %s", resp.Status, text), err)
}
