package peers

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"

	"ztm/agent/limits"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
)

// Ask sends a plain request to a peer, which has 30 s to begin its answer, or to give all of it if
// that is an error. A status other than 2xx is an *answer.Error. ctx governs the body as well,
// which the caller closes.
func (p *Peers) Ask(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
	return inTime(ctx, func(ctx context.Context) (*http.Response, error) { return p.roundTrip(ctx, to, method, path, body) })
}

// AskOnce is Ask for one question to each of many peers: a session that it has to open ends with the
// answer.
func (p *Peers) AskOnce(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
	if p.pool.warm(to) > 0 {
		return p.Ask(ctx, to, method, path, body)
	}
	return inTime(ctx, func(ctx context.Context) (*http.Response, error) {
		s, err := p.pool.dial(ctx, to, "")
		if err != nil {
			return nil, err
		}
		end := func(error) { p.Work.Go(func() { s.Close() }) } // which may wait a second for the peer
		if err = s.Reserve(); err == nil {
			var resp *http.Response
			if resp, err = p.ask(ctx, ctx, s, method, path, body); err == nil {
				resp.Body = bodyOf{resp.Body, end}
				return resp, nil
			}
		}
		end(nil)
		return nil, err
	})
}

// inTime asks a peer, which has [askTimeout] to begin its answer.
func inTime(ctx context.Context, ask func(context.Context) (*http.Response, error)) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(askTimeout, func() { cancel(errTimeout) })
	resp, err := ask(ctx)
	if !late.Stop() && err == nil {
		resp.Body.Close()
		err = errTimeout
	}
	if err != nil {
		if context.Cause(ctx) == errTimeout {
			err = errTimeout
		}
		cancel(nil)
		return nil, answer.Lost(err)
	}
	resp.Body = bodyOf{resp.Body, cancel}
	return resp, nil
}

// askTimeout bounds how long a peer may take for an answer: it may have to wait for its own hub.
const askTimeout = 30 * time.Second

var errTimeout = answer.Errorf(answer.Timeout, "the endpoint does not answer")

// bodyOf is the body of an answer, whose request ends with it.
type bodyOf struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b bodyOf) Close() error {
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}

// roundTrip sends a request, and one that only asks again elsewhere where its session hangs.
func (p *Peers) roundTrip(ctx context.Context, to identity.ID, method, path string, body []byte) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		session, err := p.pool.get(ctx, to)
		if err != nil {
			return nil, err
		}
		watched, stop := ctx, func() {}
		if method == http.MethodGet {
			watched, stop = p.watch(ctx, session)
		}
		resp, err := p.ask(ctx, watched, session, method, path, body)
		hangs := gaveUp(ctx, watched)
		stop()
		if err == nil || attempt >= maxAgain || !hangs {
			return resp, err
		}
	}
}

// ask sends a request on a session. watched governs the wait for the answer, ctx all of it.
func (p *Peers) ask(ctx, watched context.Context, s *outSession, method, path string, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(watched, func() { cancel(context.Cause(watched)) })
	req, err := http.NewRequestWithContext(ctx, method, "http://peer"+path, bytes.NewReader(body))
	if err != nil {
		s.Release()
		return nil, err
	}
	resp, err := s.RoundTrip(req)
	if !unhook() && err == nil {
		resp.Body.Close()
		err = context.Cause(watched)
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	p.Answered(s, resp)
	if resp.StatusCode >= 300 {
		return nil, ResponseError(resp)
	}
	return resp, nil
}

// ResponseError reads how a peer said no, and closes the body.
func ResponseError(resp *http.Response) error {
	defer resp.Body.Close()
	b, err := answer.Limited(resp.Body, limits.RefusalBytes)
	if err != nil {
		return answer.Errorf(answer.Broken, "the peer answered with status %s", resp.Status)
	}
	return answer.Parse(resp.StatusCode, b)
}

// Ping measures one request on a warm session. It takes no longer than a hub may take to answer.
func (p *Peers) Ping(ctx context.Context, id identity.ID) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, tunnel.ProbeTimeout)
	defer cancel()
	s, err := p.pool.get(ctx, id) // the handshake is not what we measure
	if err != nil {
		return 0, answer.Lost(err)
	}
	s.Release()
	start := time.Now()
	resp, err := p.Ask(ctx, id, http.MethodGet, seal.PathPing, nil)
	if err != nil {
		return 0, err
	}
	return time.Since(start), resp.Body.Close()
}
