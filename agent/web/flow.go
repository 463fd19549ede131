package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"

	"ztm/agent/web/websocket"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/splice"
)

// A flow in a WebSocket: binary messages are its bytes, text messages are signals.
//
//	browser <- {"open":true}      the exit has accepted; {"error":...,"message":...} is its refusal
//	browser -> {"took":N}         it has used N bytes more: it is sent no more than window ahead
//	both       {"end":true}       the end of that direction
//	browser <- {"lost":true}      the flow was cut off

// window is how many bytes a browser is sent that it has not used: its WebSocket would take any
// number into memory.
const window = 1 << 20

const chunk = 32 << 10 // bytes of a message

// signal is a text message of a flow.
type signal struct {
	*answer.Error
	Open bool `json:"open,omitempty"`
	Took int  `json:"took,omitempty"`
	End  bool `json:"end,omitempty"`
	Lost bool `json:"lost,omitempty"`
}

// flow serves the WebSocket of one flow.
func (o *opening) flow(ctx context.Context, r *http.Request, s *session, accept func() (*websocket.Conn, error)) {
	conn, err := o.openFlow(ctx, r, s)
	ws, failed := accept()
	if failed != nil {
		if conn != nil {
			conn.Close()
		}
		return
	}
	defer ws.Close()
	if err != nil {
		tell(ws, signal{Error: answer.Public(err)})
		return
	}
	defer conn.Close()
	b := &bridge{ws: ws, conn: conn, used: o.used, credit: window}
	b.room.L = &b.mu
	defer context.AfterFunc(ctx, b.cut)()
	b.run()
}

func (o *opening) openFlow(ctx context.Context, r *http.Request, s *session) (net.Conn, error) {
	path := r.PathValue("path")
	looks, ok := flows[path]
	if strings.HasPrefix(path, "tunnel/") && r.URL.Query().Get("probe") != "" {
		looks, ok = true, true // asks whether it would be allowed
	}
	switch {
	case !ok:
		return nil, answer.Errorf(answer.NotFound, "the console opens no flow to %q", path)
	case s.readOnly && !looks:
		return nil, answer.Errorf(answer.Denied, "this console only looks: it was opened with --read-only")
	}
	id, err := identity.ParseID(r.PathValue("ep"))
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	return o.host.Open(ctx, r.PathValue("mesh"), id, path, r.URL.Query())
}

// tell sends a signal. Whether that failed shows in the next read.
func tell(ws *websocket.Conn, s signal) {
	if b, err := json.Marshal(s); err == nil {
		ws.Write(websocket.Text, b)
	}
}

// bridge carries one flow.
type bridge struct {
	ws   *websocket.Conn
	conn net.Conn
	used func()

	mu     sync.Mutex
	room   sync.Cond // credit or over changed
	credit int       // bytes that the browser may still be sent; guarded by mu
	over   bool      // guarded by mu
}

// cut ends both sides; what waits for them returns.
func (b *bridge) cut() {
	b.mu.Lock()
	b.over = true
	b.room.Broadcast()
	b.mu.Unlock()
	splice.Abort(b.conn)
	b.conn.Close()
	b.ws.Close()
}

// run returns when both directions have ended or one has failed.
func (b *bridge) run() {
	tell(b.ws, signal{Open: true})
	var out sync.WaitGroup
	out.Go(b.down)
	b.up()
	b.cut()
	out.Wait()
}

// down sends the browser what the flow has.
func (b *bridge) down() {
	buf := make([]byte, chunk)
	for {
		n := b.acquire()
		if n == 0 {
			return
		}
		n, err := b.conn.Read(buf[:n])
		b.spend(n)
		if n > 0 && b.ws.Write(websocket.Binary, buf[:n]) != nil {
			b.cut()
			return
		}
		if err != nil {
			tell(b.ws, signal{End: errors.Is(err, io.EOF), Lost: !errors.Is(err, io.EOF)})
			return
		}
	}
}

// acquire waits until the browser may be sent something, and returns how much; 0 at the end.
func (b *bridge) acquire() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.credit <= 0 && !b.over {
		b.room.Wait()
	}
	if b.over {
		return 0
	}
	return min(b.credit, chunk)
}

func (b *bridge) spend(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.credit -= n
}

// widen gives credit back. A browser that lies hurts its own tab.
func (b *bridge) widen(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.credit = min(b.credit+max(n, 0), window)
	b.room.Broadcast()
}

// up sends the flow what the browser has, until the browser has gone or says what makes no sense.
func (b *bridge) up() {
	for {
		kind, p, err := b.ws.Read()
		if err != nil {
			return
		}
		b.used()
		if kind == websocket.Binary {
			if _, err := b.conn.Write(p); err != nil {
				return
			}
			continue
		}
		var s signal
		if err := json.Unmarshal(p, &s); err != nil {
			return
		}
		b.widen(s.Took)
		if s.End {
			splice.CloseWrite(b.conn)
		}
	}
}
