package external

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnOriginEndsWhenNobodyHasAskedForAWhileAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		h := untilIdle(ctx, end, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/events" {
				<-time.After(3 * openedTime)
			}
		}))
		ask := func(path string) { h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)) }
		ask("/events")
		<-time.After(openedTime - time.Second)
		ask("/")
		<-time.After(openedTime - time.Second)
		if synctest.Wait(); ctx.Err() != nil {
			t.Error("it ended while it was used")
		}
		<-time.After(2 * time.Second)
		if synctest.Wait(); ctx.Err() == nil {
			t.Error("it goes on though nobody asks")
		}
	})
}

// nowhere is a listener that is never asked.
type nowhere struct{ net.Listener }

func (nowhere) Close() error { return nil }

func TestOneOriginTooManyEndsTheOldest(t *testing.T) {
	var l listeners
	ended := make(chan int, 2*maxOpened)
	for i := range maxOpened + 2 {
		if err := l.serve(nowhere{}, http.NotFoundHandler(), func(ctx context.Context, _ http.Handler) {
			<-ctx.Done()
			ended <- i
		}); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := <-ended, <-ended; first+second != 1 {
		t.Errorf("%d and %d ended", first, second)
	}
	l.close()
	if len(ended) != maxOpened {
		t.Errorf("%d ended with the app, not %d", len(ended), maxOpened)
	}
	if err := l.serve(nowhere{}, http.NotFoundHandler(), nil); err == nil {
		t.Error("an app that has ended opens an origin")
	}
}
