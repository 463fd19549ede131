package web

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"ztm/apps/proxy/httpguard"
)

func TestARequestOfAClientThatSeemsGoneEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		c := &client{guard: httpguard.New(near)}
		defer c.guard.Close()
		server, ended := context.WithCancel(t.Context())
		r, done := c.outlive(t.Context(), (&http.Request{}).WithContext(server))
		defer done()
		far.Close()
		if _, err := c.guard.Read(make([]byte, 1)); err != io.EOF {
			t.Fatal(err)
		}
		ended()
		began := time.Now()
		for range 10 { // it reads what is written to it
			time.AfterFunc(halfClosedTimeout/2, func() { c.written.Add(1) })
			select {
			case <-r.Context().Done():
				t.Fatalf("it ends after %v, although something is written", time.Since(began))
			case <-time.After(halfClosedTimeout / 2):
			}
		}
		<-r.Context().Done()
	})
}
