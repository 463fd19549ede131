// Package door is the two doors of an app of others: the one at which peers ask it, and the one at
// which it asks the agent.
//
//	flow of a peer -> In.Serve: a request with the name of who asks -> the program -> its answer, or bytes both ways
//	the program, at the socket ZTM_API -> Out: what it may know and reach -> Mesh.Open -> the same app elsewhere
//
// A flow is of one kind: "stream" carries bytes, with half-close, after the program agreed to
// `Upgrade: ztm`; "datagram" carries datagrams, which the program has as capsules after `Upgrade:
// ztm-datagram`; "http" carries one request and its answer.
package door

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/external/contract"
	"ztm/tunnel/answer"
	"ztm/tunnel/capsule"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
	"ztm/tunnel/splice"
)

// Limits of the flows to one app.
const (
	maxFlows   = 512
	maxOfPeer  = 64
	headWithin = 10 * time.Second // for the head of a request to arrive
	maxText    = 1024             // bytes of an answer that refuses, as they are passed on
)

// In is the door at which peers ask. The zero value is ready. Its methods may be called from any
// goroutine.
type In struct {
	all    limit.Counts[string]      // by app
	ofPeer limit.Counts[flowsOfPeer] //
	links  links
}

type flowsOfPeer struct {
	app  string
	peer identity.ID
}

// Request is a flow for an app. Whether the peer may use the app was decided before.
type Request struct {
	ID     string // of the app
	Kind   string // "stream", "datagram" or "http"
	Path   string // below the app's, not escaped
	Caller contract.Caller
	Dial   func(context.Context) (net.Conn, error) // to the program
}

// Serve gives a flow to the program. It returns when the flow is over.
func (in *In) Serve(ctx context.Context, f apps.Flow, r Request) {
	release, err := in.enter(r)
	if err != nil {
		f.Refuse(err)
		return
	}
	defer release()
	x := &exchange{ctx: ctx, flow: f, request: r, app: in.links.enter(r.ID, r.Caller)}
	x.answered = sync.OnceFunc(func() { in.links.answered(r.ID) })
	defer x.answered()
	if x.app == nil {
		if err := x.dial(); err != nil {
			f.Refuse(err)
			return
		}
	}
	x.run()
	if x.whole {
		in.links.keep(r.ID, r.Caller, x.app)
	} else {
		x.app.Close()
	}
}

// Close ends the connections that are kept.
func (in *In) Close() { in.links.close() }

// enter takes a place for a flow.
func (in *In) enter(r Request) (release func(), err error) {
	if !in.all.Acquire(r.ID, maxFlows) {
		return nil, answer.Errorf(answer.Limit, "the app %s has %d flows, which is its limit", r.ID, maxFlows)
	}
	key := flowsOfPeer{r.ID, r.Caller.ID}
	if !in.ofPeer.Acquire(key, maxOfPeer) {
		in.all.Release(r.ID)
		return nil, answer.Errorf(answer.Limit, "this endpoint has %d flows to the app %s, which is its limit", maxOfPeer, r.ID)
	}
	return func() { in.ofPeer.Release(key); in.all.Release(r.ID) }, nil
}

// exchange is one flow.
type exchange struct {
	ctx      context.Context
	flow     apps.Flow
	request  Request
	app      *link
	answered func() // the answer has begun
	whole    bool   // it has ended, and the connection may carry another
}

// run carries the flow.
func (x *exchange) run() {
	switch x.request.Kind {
	case "http":
		x.http()
	case "stream":
		x.upgrade(contract.Stream, x.stream)
	case "datagram":
		x.upgrade(contract.Datagrams, x.datagrams)
	default:
		x.flow.Refuse(answer.Errorf(answer.NotFound, "an app takes no %.40q", x.request.Kind))
	}
}

// dial connects to the program.
func (x *exchange) dial() error {
	c, err := x.request.Dial(x.ctx)
	if err == nil {
		x.app = newLink(c)
	}
	return err
}

// send sends a request to the program and returns the head of its answer. A connection that was kept
// may have an end that has not been seen. So it is for requests alone that may be sent twice (RFC 9110
// section 9.2.1).
func (x *exchange) send(out *http.Request) (*http.Response, error) {
	defer x.answered()
	if x.app.used {
		if twice := (out.Method == http.MethodGet || out.Method == http.MethodHead) && !out.Close && out.Header.Get("Upgrade") == ""; twice {
			resp, err := contract.Exchange(x.ctx, x.app, x.app.in, x.app.head, out)
			if answer.CodeOf(err) != answer.Broken || x.ctx.Err() != nil {
				return resp, err
			}
		}
		x.app.Close()
		if err := x.dial(); err != nil {
			return nil, err
		}
	}
	return contract.Exchange(x.ctx, x.app, x.app.in, x.app.head, out)
}

// upgrade asks the program for bytes or datagrams, and goes on with next if it agrees.
func (x *exchange) upgrade(protocol string, next func()) {
	target, err := contract.Target(x.request.Path, x.flow.Query())
	if err != nil {
		x.flow.Refuse(err)
		return
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		x.flow.Refuse(err)
		return
	}
	out := &http.Request{Method: http.MethodGet, URL: u, Host: "ztm", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {protocol}, "User-Agent": nil}}
	x.request.Caller.Sign(out.Header)
	resp, err := x.send(out)
	if err != nil {
		x.flow.Refuse(err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		x.flow.Refuse(refusal(resp))
		return
	}
	next()
}

// refusal is what a program said instead of yes.
func refusal(resp *http.Response) error {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxText))
	e := answer.Parse(resp.StatusCode, text)
	if err == nil && len(text) > 0 && e.Message != "" {
		e.Message = "the app answers " + resp.Status + ": " + apps.Printable(string(text))
	}
	return e
}

// stream joins the flow and the program.
func (x *exchange) stream() {
	c, err := x.flow.Accept()
	if err != nil {
		return
	}
	splice.Join(x.ctx, c, contract.Buffered(x.app.Conn, x.app.in))
}

// datagrams passes datagrams on, which the program has as capsules.
func (x *exchange) datagrams() {
	c, err := x.flow.AcceptDatagrams()
	if err != nil {
		return
	}
	relayDatagrams(x.ctx, c, x.app, x.app.in)
}

// relayDatagrams carries datagrams between a flow and a connection of capsules, until either ends.
func relayDatagrams(ctx context.Context, flow, capsules net.Conn, in io.Reader) {
	end := sync.OnceFunc(func() { flow.Close(); capsules.Close() })
	defer end()
	defer context.AfterFunc(ctx, end)()
	var back sync.WaitGroup
	back.Go(func() {
		defer end()
		buf, out := make([]byte, apps.MaxDatagram), []byte(nil)
		for {
			n, err := flow.Read(buf)
			if err != nil {
				return
			}
			out = capsule.AppendDatagram(out[:0], buf[:n])
			if _, err := capsules.Write(out); err != nil {
				return
			}
		}
	})
	// One byte more shows what is too long: it is dropped, as a network does. A part of it means something else.
	buf, from := make([]byte, apps.MaxDatagram+1), capsule.NewDatagrams(in)
	for {
		n, err := from.Read(buf)
		if err != nil {
			break
		}
		if n > apps.MaxDatagram {
			continue
		}
		if _, err := flow.Write(buf[:n]); err != nil {
			break
		}
	}
	end()
	back.Wait()
}

// http answers the one request of a flow.
func (x *exchange) http() {
	c, err := x.flow.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	late := time.AfterFunc(headWithin, func() { splice.Abort(c) })
	in, head := contract.Limited(c)
	r, err := contract.Read(in, head)
	if !late.Stop() || err != nil {
		sendFailure(c, err)
		return
	}
	out := contract.Clean(r)
	x.request.Caller.Sign(out.Header)
	resp, err := x.send(out)
	if err != nil {
		sendFailure(c, err)
		return
	}
	defer resp.Body.Close()
	last := out.Close || resp.Close
	x.whole = x.pass(c, in, resp) && !last && x.app.in.Buffered() == 0 && x.ctx.Err() == nil
}

// pass gives an answer to the peer. It reports whether all of it came, and no other protocol behind it.
func (x *exchange) pass(c net.Conn, in *bufio.Reader, resp *http.Response) bool {
	protocol := resp.Header.Get("Upgrade")
	resp.Header = contract.CleanHeader(resp.Header)
	resp.Trailer = nil
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Header.Set("Connection", "Upgrade")
		resp.Header.Set("Upgrade", protocol)
		resp.Body = http.NoBody
		switch {
		case contract.Send(c, resp, x.app.in) != nil:
		case protocol == contract.Command:
			x.command(c, in)
		default:
			splice.Join(x.ctx, contract.Buffered(c, in), contract.Buffered(x.app.Conn, x.app.in))
		}
		return false
	}
	resp.Close = true
	if contract.Send(c, resp, x.app.in) != nil {
		splice.Abort(c) // an answer that was cut is no whole one
		return false
	}
	return true
}

// command passes the input of a command on, and its frames back. The frames say by themselves that
// they are whole, so a program may end before it has read its input: for a unix socket that is an
// error, and here it is the end.
func (x *exchange) command(c net.Conn, in *bufio.Reader) {
	defer context.AfterFunc(x.ctx, func() { splice.Abort(c); x.app.Close() })()
	var input sync.WaitGroup
	input.Go(func() {
		io.Copy(x.app, in)
		splice.CloseWrite(x.app.Conn)
		io.Copy(io.Discard, in)
	})
	io.Copy(c, x.app.in)
	splice.CloseWrite(c)
	// The other side closes when it has the status.
	late := time.AfterFunc(headWithin, func() { splice.Abort(c) })
	defer late.Stop()
	input.Wait()
}

// sendFailure answers a request that no program saw, or that none answered.
func sendFailure(c net.Conn, err error) {
	e := answer.Public(err)
	text, err := json.Marshal(e)
	if err != nil {
		return
	}
	resp := &http.Response{StatusCode: e.Status(), ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Close: true}
	var whole bytes.Buffer
	resp.Write(&whole)
	c.Write(whole.Bytes())
}
