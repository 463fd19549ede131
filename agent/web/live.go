package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"ztm/agent/web/websocket"
	"ztm/tunnel/answer"
)

// The one stream of a tab. It names the requests whose answers it shows, and gets each when it has
// changed:
//
//	browser -> {"watch":["/api/meshes",...]}     replaces what was watched; [] while the tab is hidden
//	browser <- {"path":...,"status":...,"body":...}
//
// The agent asks itself, in this process: a change costs a message, no change costs none.

// Limits of one stream.
const (
	lookEvery  = 2 * time.Second
	lookWithin = 10 * time.Second // for one answer, which another endpoint may give
	maxWatched = 24
	maxAnswer  = 4 << 20 // bytes
)

// seen is an answer that a tab gets.
type seen struct {
	Path   string          `json:"path"`
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body,omitempty"`
}

// watch is what one tab watches.
type watch struct {
	o  *opening
	ws *websocket.Conn

	mu    sync.Mutex
	paths []string      // guarded by mu
	kick  chan struct{} // capacity 1: paths has changed
}

// live serves the stream of one tab.
func (o *opening) live(ctx context.Context, _ *http.Request, _ *session, accept func() (*websocket.Conn, error)) {
	ws, err := accept()
	if err != nil {
		return
	}
	w := &watch{o: o, ws: ws, kick: make(chan struct{}, 1)}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { ws.Close() })()
	var looking sync.WaitGroup
	looking.Go(func() { defer cancel(); w.look(ctx) })
	w.listen()
	cancel()
	looking.Wait()
}

var errWatch = errors.New("a tab watches what it must not")

// listen reads what the tab shows, until it goes.
func (w *watch) listen() error {
	for {
		_, p, err := w.ws.Read()
		if err != nil {
			return err
		}
		w.o.used()
		var in struct {
			Watch []string `json:"watch"`
		}
		if err := json.Unmarshal(p, &in); err != nil {
			return err
		}
		if len(in.Watch) > maxWatched {
			return errWatch
		}
		w.mu.Lock()
		w.paths = in.Watch
		w.mu.Unlock()
		select {
		case w.kick <- struct{}{}:
		default:
		}
	}
}

func (w *watch) watched() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.paths
}

// look asks again and again, and tells what has changed.
func (w *watch) look(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	told := map[string][sha256.Size]byte{}
	for {
		paths := w.watched()
		fresh := map[string][sha256.Size]byte{}
		for _, path := range paths {
			s := w.o.ask(ctx, path)
			sum := sha256.Sum256(append([]byte{byte(s.Status), byte(s.Status >> 8)}, s.Body...))
			if old, ok := told[path]; !ok || old != sum {
				b, err := json.Marshal(s)
				if err != nil || w.ws.Write(websocket.Text, b) != nil {
					return
				}
			}
			fresh[path] = sum
		}
		told = fresh
		select {
		case <-tick.C:
		case <-w.kick:
		case <-ctx.Done():
			return
		}
	}
}

// ask has the agent answer a request that looks.
func (o *opening) ask(ctx context.Context, path string) seen {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	out := answer.NewKept(maxAnswer)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, path, http.NoBody)
	if err != nil || !strings.HasPrefix(path, "/api/") {
		answer.Fail(out, o.host.Log, answer.Errorf(answer.BadRequest, "there is no such path"))
	} else {
		o.allowed.ServeHTTP(out, r)
	}
	s := seen{Path: path, Status: out.Status}
	if body := bytes.TrimSpace(out.Body.Bytes()); json.Valid(body) {
		s.Body = body
	}
	return s
}
