package webhook

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

const secret = "a secret of some length"

func TestAHookGetsWhatItIsSentAndCanTellWhoSentIt(t *testing.T) {
	var problem error
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		var at int64
		fmt.Sscanf(r.Header.Get(SignatureHeader), "t=%d,", &at)
		if err != nil || r.Header.Get(SignatureHeader) != Sign(secret, at, b) || time.Since(time.Unix(at, 0)) > time.Minute {
			problem = fmt.Errorf("signature %q", r.Header.Get(SignatureHeader))
		}
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			problem = err
			return
		}
		if text, err := io.ReadAll(z); err != nil || string(text) != "hello\n" || r.Header.Get("Content-Type") != "text/x" {
			problem = fmt.Errorf("%q %v", text, err)
		}
	}))
	defer s.Close()
	if err := (Hook{s.URL, secret}).Send(t.Context(), "text/x", []byte("hello\n")); err != nil || problem != nil {
		t.Error(err, problem)
	}
	if Sign(secret, 1, []byte("x")) == Sign(secret, 2, []byte("x")) || Sign(secret, 1, []byte("x")) == Sign(secret+"y", 1, []byte("x")) {
		t.Error("the time or the secret is not in the signature")
	}
}

func TestAnAnswerSaysWhetherToSendAgain(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	for status, want := range map[int]string{204: "good", 500: "again", 503: "again", 429: "again", 400: "never", 404: "never", 302: "never", 307: "never"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", other.URL)
			w.WriteHeader(status)
		}))
		err := Hook{s.URL, secret}.Send(t.Context(), "text/x", nil)
		got := map[bool]string{true: "never", false: "again"}[errors.Is(err, ErrNever)]
		if err == nil {
			got = "good"
		}
		if got != want {
			t.Errorf("%d: %s, want %s (%v)", status, got, want, err)
		}
		s.Close()
	}
	if elsewhere != 0 {
		t.Error("a redirection was followed")
	}
}

func TestWhatCannotBeAHookIsRefused(t *testing.T) {
	for _, h := range []Hook{{"", secret}, {"siem.example.com", secret}, {"http://siem.example.com/", secret}, {"https://", secret}, {"ftp://a/", secret},
		{"https://u:p@a/", secret}, {"https://a/", "short"}, {"https://a/#x", secret}} {
		if h.Check() == nil {
			t.Errorf("%+v is taken", h)
		}
	}
	for _, h := range []Hook{{"https://siem.example.com:8443/a?b=c", secret}, {"http://127.0.0.1:9/", secret}, {"http://[::1]/", secret}} {
		if err := h.Check(); err != nil {
			t.Errorf("%+v: %v", h, err)
		}
	}
}
