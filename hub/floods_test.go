package hub

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// A member may send the hub anything. Whatever it is, the hub goes on serving the others, and does
// not grow.
func TestAFloodOfFramesHarmsNobodyElse(t *testing.T) {
	appstest.Long(t)
	window := make([]byte, 4)
	binary.BigEndian.PutUint32(window, 1)
	status := block("GET", tunnel.PathHub)
	cases := []struct {
		name   string
		begin  func(f *rawClient)                   // before the flood
		frames func(b []byte, stream uint32) []byte // a piece of it
		reads  bool                                 // the member reads what comes back
	}{
		{name: "rapid reset", reads: true, frames: func(b []byte, stream uint32) []byte {
			b = appendFrame(b, frameHeaders, flagEndHeaders|flagEndStream, stream, status)
			return appendFrame(b, frameReset, 0, stream, []byte{0, 0, 0, 8})
		}},
		{name: "rapid reset without reading", frames: func(b []byte, stream uint32) []byte {
			b = appendFrame(b, frameHeaders, flagEndHeaders|flagEndStream, stream, status)
			return appendFrame(b, frameReset, 0, stream, []byte{0, 0, 0, 8})
		}},
		{name: "requests without reading", frames: func(b []byte, stream uint32) []byte {
			return appendFrame(b, frameHeaders, flagEndHeaders|flagEndStream, stream, status)
		}},
		{name: "requests that the hub resets", reads: true, frames: func(b []byte, stream uint32) []byte {
			b = appendFrame(b, frameHeaders, flagEndHeaders, stream, block("POST", tunnel.PathTrust))
			return appendFrame(b, frameWindow, 0, stream, []byte{0, 0, 0, 0}) // an increment of 0 is a stream error
		}},
		{name: "continuation", begin: func(f *rawClient) { f.must(f.frame(frameHeaders, flagEndStream, 1, status)) },
			frames: func(b []byte, _ uint32) []byte {
				return appendFrame(b, frameContinuation, 0, 1, append([]byte{0, 1, 'x', 127, 0}, make([]byte, 127)...))
			}},
		{name: "ping", frames: func(b []byte, _ uint32) []byte { return appendFrame(b, framePing, 0, 0, make([]byte, 8)) }},
		{name: "settings", frames: func(b []byte, _ uint32) []byte { return appendFrame(b, frameSettings, 0, 0, nil) }},
		{name: "window updates", reads: true, frames: func(b []byte, _ uint32) []byte {
			return appendFrame(b, frameWindow, 0, 0, window)
		}},
		{name: "empty data", reads: true, begin: func(f *rawClient) { f.post(1, tunnel.PathTrust) },
			frames: func(b []byte, _ uint32) []byte { return appendFrame(b, frameData, 0, 1, nil) }},
		{name: "unknown frames", reads: true, frames: func(b []byte, stream uint32) []byte {
			return appendFrame(b, 0xbe, 0xff, stream, make([]byte, 100))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := start(t)
			good := h.device("alice").session()
			f := newRawClient(t, h.device("eve"))
			if c.begin != nil {
				c.begin(f)
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			defer f.c.NetConn().Close()
			if c.reads {
				wg.Go(func() { io.Copy(io.Discard, f.c) })
			}
			before := heap()
			ended := make(chan struct{})
			wg.Go(func() {
				defer close(ended)
				f.c.SetWriteDeadline(time.Now().Add(2 * time.Second)) // the hub may stop reading, too
				for stream := uint32(3); stream < 3+2*100_000; {
					var b []byte
					for len(b) < 16<<10 {
						b = c.frames(b, stream)
						stream += 2
					}
					if _, err := f.c.Write(b); err != nil {
						return
					}
				}
			})
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for flooding := true; flooding; {
				select {
				case <-ended:
					flooding = false
				case <-tick.C:
				}
				if err := good.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
					t.Fatalf("the hub does not answer others: %v", err)
				}
			}
			if grown := int64(heap()) - int64(before); grown > 16<<20 {
				t.Errorf("the hub has grown by %d MiB", grown>>20)
			}
		})
	}
}

// heap returns the bytes that are alive.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAHugeHeaderIsRefused(t *testing.T) {
	h := start(t)
	good := h.device("alice").session()
	f := newRawClient(t, h.device("eve"))
	b := block("GET", tunnel.PathHub)
	for range 12 { // a literal field with a value of 1400 bytes: 16 KiB in all
		b = append(b, 0, 1, 'x', 0x7f, 0xf9, 0x09)
		b = append(b, make([]byte, 1400)...)
	}
	f.frame(frameHeaders, flagEndStream, 1, b[:16000])
	f.frame(frameContinuation, flagEndHeaders, 1, b[16000:])
	answers := make(chan byte, 16)
	go func() { // ends with the connection
		defer close(answers)
		head := make([]byte, 9)
		for {
			if _, err := io.ReadFull(f.c, head); err != nil {
				return
			}
			n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
			if binary.BigEndian.Uint32(head[5:]) == 1 || head[3] == frameGoAway {
				answers <- head[3]
			}
			if _, err := io.CopyN(io.Discard, f.c, int64(n)); err != nil {
				return
			}
		}
	}()
	select {
	case typ := <-answers:
		if typ != frameHeaders && typ != frameReset && typ != frameGoAway {
			t.Errorf("frame type %d", typ)
		}
	case <-time.After(timeout):
		t.Error("no answer")
	}
	if err := good.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
		t.Error(err)
	}
	f.c.NetConn().Close()
	for range answers {
	}
}

func TestRequestsOfOneEndpointAreLimited(t *testing.T) {
	h := start(t, func(c *Config) { c.requestRate = limit.Rate{Burst: 2} })
	ask := func(d *device) error {
		return d.session().Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil)
	}
	eve := h.device("eve")
	for range 2 {
		if err := ask(eve); err != nil {
			t.Fatal(err)
		}
	}
	wantRefusal(t, ask(eve), 429, "asks too often")
	if err := ask(h.device("eve")); err != nil {
		t.Errorf("another endpoint: %v", err)
	}
}

func TestConnectionsOfOneAddressAreLimited(t *testing.T) {
	h := start(t, func(c *Config) { c.connectionRate = limit.Rate{Burst: 2} })
	bob := h.device("bob")
	for range 2 {
		if err := h.try(bob.config(tunnel.ControlProto)); err != nil {
			t.Fatal(err)
		}
	}
	if h.try(bob.config(tunnel.ControlProto)) == nil {
		t.Error("a third connection was taken")
	}
	if err := h.tryFrom("127.0.0.2", bob.config(tunnel.ControlProto)); err != nil {
		t.Errorf("another address: %v", err)
	}
}

func TestFailingRequestsLeaveTheOthersTheirBudget(t *testing.T) {
	h := start(t, func(c *Config) { c.requestRate, c.pageRate = limit.Rate{Burst: 20}, limit.Rate{Burst: 20} })
	p := newHonest(t, h)
	off := h.device("off")
	if err := off.put(off.session(), off.record("off")); err != nil {
		t.Fatal(err)
	}
	var busy *online
	look := func(id identity.ID) error {
		return busy.Call(t.Context(), "GET", tunnel.PathEndpoints+"/"+string(id), nil, nil, nil)
	}
	named := func(name string) error {
		return busy.Call(t.Context(), "GET", tunnel.PathEndpoints, url.Values{"name": {name}}, nil, nil)
	}
	offered := func(name string) error {
		return busy.Call(t.Context(), "GET", tunnel.PathEndpoints, url.Values{"offer": {name}}, nil, nil)
	}
	open := func(id identity.ID) error {
		c, err := busy.Session.Relay(t.Context(), id, "")
		if err == nil {
			c.Close()
		}
		return err
	}
	for _, tt := range []struct {
		name      string
		bad, good func() error
	}{
		{"of one ID", func() error { return look(off.id) }, func() error { return look(p.b.id) }},
		{"by name", func() error { return named("nobody") }, func() error { return named("honest-b") }},
		{"paths", func() error { return open(off.id) }, func() error { return open(p.b.id) }},
		{"by offer", func() error { return offered("tunnel/tcp/none") }, func() error { return offered("tunnel/tcp/web") }},
	} {
		busy = h.device("busy").online("busy-" + strings.ReplaceAll(tt.name, " ", "-"))
		for answer.CodeOf(tt.bad()) != answer.Limit {
		}
		if err := tt.good(); err != nil {
			t.Errorf("%s: a good request beside bad ones: %v", tt.name, err)
		}
		if err := busy.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
			t.Errorf("%s: the status beside bad requests: %v", tt.name, err)
		}
		if err := busy.Call(t.Context(), "GET", tunnel.PathEndpoints, nil, nil, nil); err != nil {
			t.Errorf("%s: a list beside bad requests: %v", tt.name, err)
		}
	}
	p.works(t)
}

func TestListingTheDirectoryInALoopHarmsNobodyElse(t *testing.T) {
	h := start(t, func(c *Config) { c.pageRate = limit.Rate{Burst: 30, PerSecond: 1} })
	p := newHonest(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	limited := make(chan struct{}, 8)
	for i := range 8 {
		s := h.device(fmt.Sprint("eve-", i%2)).session()
		wg.Go(func() {
			told := sync.OnceFunc(func() { limited <- struct{}{} })
			for ctx.Err() == nil {
				if answer.CodeOf(s.Call(ctx, "GET", tunnel.PathEndpoints, nil, nil, nil)) == answer.Limit {
					told()
				}
			}
		})
	}
	for range 8 {
		select {
		case <-limited:
		case <-time.After(timeout):
			t.Fatal("an endpoint lists without a limit")
		}
	}
	p.works(t)
	if err := p.a.Call(ctx, "GET", tunnel.PathEndpoints, nil, nil, nil); err != nil {
		t.Errorf("another endpoint lists: %v", err)
	}
}

// A holder of the CA key that is asked by many devices at once answers on as many streams.
func TestMoreRequestsThanAHubTakesAtATimeAreAllAnswered(t *testing.T) {
	h := start(t)
	s := h.device("bob").session()
	var wg sync.WaitGroup
	for range 500 {
		wg.Go(func() {
			if err := s.Call(t.Context(), "GET", tunnel.PathHub, nil, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
