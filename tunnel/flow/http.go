package flow

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Header marks a request or response that speaks capsules (RFC 9297 section 3.4).
const Header = "Capsule-Protocol"

// Open sends req, whose body becomes the writing direction, and waits for the exit's answer. A
// status other than 200 is returned as a response, whose body the caller closes, and no Conn. ctx
// governs the opening; the flow lives until it is closed.
//
// What early gives, if it is not nil, follows the request at once. Open has stopped it when it
// returns. The Conn leaves out as many of the bytes that are written to it: they are the same ones.
func Open(ctx context.Context, rt http.RoundTripper, req *http.Request, datagrams bool, early Early) (*Conn, *http.Response, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	body := newRequestBody(early)
	req = req.WithContext(life)
	req.Body = body
	req.Header.Set(Header, "?1")
	stop := context.AfterFunc(ctx, cancel)
	resp, err := rt.RoundTrip(req)
	sent := 0
	if early != nil {
		sent = early.Stop()
	}
	if !stop() && err == nil {
		resp.Body.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		body.Close()
		resp.Body = cancelBody{resp.Body, cancel}
		return nil, resp, nil
	}
	c := newConn(resp.Body, body, datagrams)
	c.early = sent
	body.pickup.onStall(c.askOffload)
	c.end = func(reset bool) { c.endRequest(reset, body, resp.Body, cancel) }
	return c, resp, nil
}

// endRequest ends the flow at the entrance.
func (c *Conn) endRequest(reset bool, body *requestBody, answer io.ReadCloser, cancel context.CancelFunc) {
	switch {
	case reset:
		body.Close()
		cancel()
		answer.Close()
	case c.heard.Load(): // and so the request ends when its own end is sent
		late := time.AfterFunc(closeTimeout, cancel)
		body.afterClose(func() { late.Stop() })
	default:
		go lingeringClose(answer, cancel)
	}
}

type cancelBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b cancelBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// Accept answers a request with 200. The handler calls [Conn.Finish] before it returns, and panics
// with http.ErrAbortHandler if that reports a reset: this is how net/http resets a stream.
func Accept(w http.ResponseWriter, r *http.Request, datagrams bool) (*Conn, error) {
	rc := http.NewResponseController(w)
	w.Header().Set(Header, "?1")
	w.Header()["Date"] = nil // or net/http adds one
	w.WriteHeader(http.StatusOK)
	if err := rc.Flush(); err != nil {
		return nil, err
	}
	c := newConn(r.Body, &responseBody{w, rc}, datagrams)
	c.end = func(reset bool) {
		if reset { // wakes a Read and a Write that wait; the handler resets the stream
			past := time.Unix(1, 0)
			c.reset.Store(true)
			rc.SetReadDeadline(past)
			rc.SetWriteDeadline(past)
		}
	}
	c.drain = func() bool {
		late := time.AfterFunc(closeTimeout, func() { rc.SetReadDeadline(time.Unix(1, 0)) })
		defer late.Stop()
		_, err := io.CopyN(io.Discard, r.Body, maxDrained)
		return err != nil
	}
	return c, nil
}

// maxDrained is what an exit that has closed still takes of a peer that goes on sending, in bytes.
// More is answered with a reset.
const maxDrained = 64 << 10
