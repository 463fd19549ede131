package script

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/process"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// The engine, a process of its own, fetches from the mesh through the bridge: a socket that it
// inherits. On it the engine sends HTTP/1.1 requests, one after the other, to hosts below
// [meshDomain], and the agent answers.
//
//	fetch("http://NAME.EP.ztm/path") -> engine -> bridge -> agent -> flow "tunnel/tcp/NAME" to EP -> the tunnel's target
const (
	meshDomain = ".ztm"
	bridgeFD   = 4
	bridgeEnv  = "ZTM_SCRIPT_BRIDGE" // is set for the engine of an agent: whether there is a bridge, and why not
)

// The values of bridgeEnv.
const (
	bridged      = "1"
	bridgeGuest  = "guest"  // a guest's script must not reach what the owner of the endpoint may reach in the mesh
	bridgeFailed = "failed" // there can be none here
)

// bridgeFor makes the bridge of a script, if it may have one.
func (a *App) bridgeFor(e *process.Entry, self apps.Endpoint) (far *os.File, stop func(), state string) {
	if e.Peer.User != self.User {
		return nil, nil, bridgeGuest
	}
	far, stop, err := a.bridge()
	if err != nil {
		a.host.Log.Warn("the script cannot reach the mesh", "session", e.ID, "err", err)
		return nil, nil, bridgeFailed
	}
	return far, stop, bridged
}

// noBridge says why a program has no way into the mesh.
func noBridge(state string) string {
	switch state {
	case bridgeGuest:
		return "only a script of the endpoint's own user has a way into the mesh"
	case bridgeFailed:
		return "scripts on this endpoint have no way into the mesh"
	}
	return "a program that is run with `ztm script js` has no way into the mesh: run it with `ztm script FILE`"
}

// bridge makes a bridge. stop ends it, and waits for that.
func (a *App) bridge() (far *os.File, stop func(), err error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { a.serveBridge(ctx, near) })
	return far, func() {
		cancel()
		near.Close()
		serving.Wait()
	}, nil
}

// serveBridge answers requests until the engine has gone.
func (a *App) serveBridge(ctx context.Context, near net.Conn) {
	defer near.Close()
	way := &http.Transport{DialContext: a.dial, DisableKeepAlives: true, DisableCompression: true, ResponseHeaderTimeout: fetchTimeout}
	r, w := bufio.NewReader(near), bufio.NewWriter(near)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(io.LimitReader(req.Body, maxBody+1))
		if err != nil || len(body) > maxBody {
			return
		}
		resp, err := way.RoundTrip(outgoing(ctx, req, body))
		if err != nil {
			resp = failed(req, err)
		}
		framed(resp)
		err = errors.Join(resp.Write(w), w.Flush())
		resp.Body.Close()
		if err != nil {
			return
		}
	}
}

// outgoing makes a request of the engine ready for a transport.
func outgoing(ctx context.Context, req *http.Request, body []byte) *http.Request {
	out := req.Clone(ctx)
	out.RequestURI, out.Close = "", false
	out.URL.Scheme, out.URL.Host = "http", req.Host
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	return out
}

// framed delimits an answer, so that another can follow.
func framed(resp *http.Response) {
	resp.Close, resp.ProtoMajor, resp.ProtoMinor = false, 1, 1
	resp.Header.Del("Connection")
	if resp.ContentLength < 0 {
		resp.TransferEncoding = []string{"chunked"}
	}
}

// bridgeError is the header that carries the error of a failed request.
const bridgeError = "Ztm-Error"

func failed(req *http.Request, err error) *http.Response {
	var public *answer.Error
	text := err.Error()
	if errors.As(err, &public) {
		text = public.Message
	}
	h := http.Header{bridgeError: {plain(text)}}
	return &http.Response{StatusCode: http.StatusBadGateway, ProtoMajor: 1, ProtoMinor: 1, Header: h, Body: http.NoBody, Request: req}
}

const (
	fetchTimeout = time.Minute // for the head of an answer
	maxBody      = 16 << 20    // of a request or an answer, in bytes
)

// dial opens the flow to a tunnel: NAME.EP.ztm.
func (a *App) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	rest, ok := strings.CutSuffix(host, meshDomain)
	i := strings.LastIndexByte(rest, '.')
	if !ok || i <= 0 || i == len(rest)-1 {
		return nil, fmt.Errorf("%s is not of the form NAME.EP%s", host, meshDomain)
	}
	tunnel, ep := rest[:i], rest[i+1:]
	id, err := a.resolve(ctx, ep)
	if err != nil {
		return nil, err
	}
	return a.host.Mesh.Open(ctx, id, "tunnel/tcp/"+tunnel, nil)
}

// resolve finds an endpoint by its ID or its name.
func (a *App) resolve(ctx context.Context, ep string) (identity.ID, error) {
	if id, err := identity.ParseID(ep); err == nil {
		return id, nil
	}
	all, err := a.host.Mesh.Endpoints(ctx, apps.Filter{Name: ep})
	if err != nil {
		return "", err
	}
	if len(all) != 1 {
		return "", answer.Errorf(answer.NotFound, "endpoint %q not found", ep)
	}
	return all[0].ID, nil
}
