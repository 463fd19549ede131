package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"ztm/agent/api"
	"ztm/agent/limits"
	"ztm/agent/peers"
	"ztm/apps"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/splice"
)

// forward sends a management request to another endpoint, which verifies by the sealed session who
// asks. The body goes as it is.
func (m *mesh) forward(w http.ResponseWriter, r *http.Request, to identity.ID) error {
	body, err := answer.Body(r, limits.Body)
	if err != nil {
		return answer.Errorf(answer.BadRequest, "request body: %v", err)
	}
	path := seal.PathAPI + r.PathValue("path")
	if r.URL.RawQuery != "" {
		path += "?" + r.URL.RawQuery
	}
	resp, err := m.peers.Ask(r.Context(), to, r.Method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if t := resp.Header.Get("Content-Type"); t != "" {
		w.Header().Set("Content-Type", t)
	}
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(w, io.LimitReader(resp.Body, limits.TrustBytes))
	if err != nil {
		m.log.Debug("an answer was cut off", "peer", to, "err", err)
	}
	return nil
}

// postFlow opens a flow for a local client and becomes its wire:
//
//	client -- unix socket -- 101 -- splice -- flow -- app at the endpoint
func (m *mesh) postFlow(w http.ResponseWriter, r *http.Request) {
	id, err := endpointID(r)
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	datagrams, ok := isFlow(r)
	if !ok {
		answer.Fail(w, m.log, answer.Errorf(answer.BadRequest, "%v", errNoUpgrade))
		return
	}
	if !m.work.Enter() {
		answer.Fail(w, m.log, answer.Errorf(answer.Unavailable, "mesh %s was left", m.name))
		return
	}
	defer m.work.Leave()
	flow, err := m.peers.Open(r.Context(), peers.Opening{To: id, Path: r.PathValue("path"), Query: r.URL.Query(), Datagrams: datagrams})
	if err != nil {
		answer.Fail(w, m.log, err)
		return
	}
	client, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		flow.Close()
		answer.Fail(w, m.log, err)
		return
	}
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	if err := rw.Flush(); err != nil {
		client.Close()
		splice.Abort(flow)
		return
	}
	client = unread(client, rw.Reader)
	if datagrams {
		joinDatagrams(m.life, api.Datagrams(client), flow)
		return
	}
	if _, _, err := splice.Join(m.life, api.Stream(client), flow); err != nil {
		m.log.Debug("a local client's flow ended", "peer", id, "err", err)
	}
}

// unread gives back what the HTTP server has read of the flow already.
func unread(c net.Conn, r *bufio.Reader) net.Conn {
	n := r.Buffered()
	if n == 0 {
		return c
	}
	head, _ := r.Peek(n)
	return &prefixed{Conn: c, head: append([]byte(nil), head...)}
}

type prefixed struct {
	net.Conn
	head []byte
}

// WritesTo returns where writes go.
func (p *prefixed) WritesTo() net.Conn { return p.Conn }

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// joinDatagrams copies datagrams both ways until one side ends; then both are closed.
func joinDatagrams(ctx context.Context, a, b net.Conn) {
	closeBoth := func() { a.Close(); b.Close() }
	defer context.AfterFunc(ctx, closeBoth)()
	var wg sync.WaitGroup
	wg.Go(func() { defer closeBoth(); copyDatagrams(b, a) })
	copyDatagrams(a, b)
	closeBoth()
	wg.Wait()
}

func copyDatagrams(dst, src net.Conn) {
	buf := make([]byte, apps.MaxDatagram)
	for {
		n, err := src.Read(buf)
		if err != nil {
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
	}
}
