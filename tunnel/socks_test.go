package tunnel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"testing"
)

// answers is what a SOCKS server of a test says after each message, of which it knows the length.
type answers []struct {
	message string
	answer  string
}

// socksServer serves one connection and sends on done what came, or why it did not.
func socksServer(t *testing.T, script answers) (address string, done chan error) {
	ln := listen(t)
	done = make(chan error, 1)
	go func() { // ends with the script, or with the connection
		done <- func() error {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			for _, s := range script {
				got := make([]byte, len(s.message))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != s.message {
					return errors.Join(err, errors.New("got "+string(got)+", want "+s.message))
				}
				if _, err := io.WriteString(c, s.answer); err != nil {
					return err
				}
			}
			return nil
		}()
	}()
	return ln.Addr().String(), done
}

func TestAConnectionComesThroughASOCKSServer(t *testing.T) {
	const ok = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
	name := "\x05\x01\x00\x03\x0fhub.example.com\x22\xb8"
	for _, tt := range []struct {
		name, address string
		user          *url.Userinfo
		script        answers
	}{
		{"to a name", "hub.example.com:8888", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, ok}}},
		{"to an IPv4 address", "192.0.2.1:443", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {"\x05\x01\x00\x01\xc0\x00\x02\x01\x01\xbb", ok}}},
		{"to an IPv6 address", "[2001:db8::1]:443", nil, answers{{"\x05\x01\x00", "\x05\x00"},
			{"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\x01\xbb", ok}}},
		{"with a password", "hub.example.com:8888", url.UserPassword("u", "secret"), answers{{"\x05\x02\x00\x02", "\x05\x02"}, {"\x01\x01u\x06secret", "\x01\x00"}, {name, ok}}},
		{"with a password that is not wanted", "hub.example.com:8888", url.UserPassword("u", "secret"), answers{{"\x05\x02\x00\x02", "\x05\x00"}, {name, ok}}},
		{"that is bound to a name", "hub.example.com:8888", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x00\x00\x03\x03abc\x00\x01"}}},
		{"that is bound to an IPv6 address", "hub.example.com:8888", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x00\x00\x04" + strings.Repeat("x", 18)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.script[len(tt.script)-1].answer += "hello"
			server, done := socksServer(t, tt.script)
			c, err := (&Dialer{Proxy: &Proxy{URL: &url.URL{Scheme: "socks5", Host: server, User: tt.user}}}).Dial(t.Context(), tt.address)
			if err != nil {
				t.Fatal(err, <-done)
			}
			defer c.Close()
			if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
				t.Errorf("the connection has %q, %v", got, err)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatASOCKSServerRefusesIsSaidOfTheProxy(t *testing.T) {
	name := "\x05\x01\x00\x03\x0fhub.example.com\x22\xb8"
	for _, tt := range []struct {
		name   string
		user   *url.Userinfo
		script answers
		want   string
	}{
		{"no SOCKS", nil, answers{{"\x05\x01\x00", "HTTP/1.1 400 Bad Request\r\n\r\n"}}, "no SOCKS5"},
		{"no method", nil, answers{{"\x05\x01\x00", "\x05\xff"}}, "who asks"},
		{"a password that there is none of", nil, answers{{"\x05\x01\x00", "\x05\x02"}}, "who asks"},
		{"a wrong password", url.UserPassword("u", "secret"), answers{{"\x05\x02\x00\x02", "\x05\x02"}, {"\x01\x01u\x06secret", "\x01\x01"}}, "refuses the user"},
		{"a name that is too long", url.UserPassword(strings.Repeat("u", 256), "secret"), answers{{"\x05\x02\x00\x02", "\x05\x02"}}, "255"},
		{"the connection", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x05\x00\x01"}}, "connection refused"},
		{"for no known reason", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x99\x00\x01"}}, "answer 153"},
		{"an address of no kind", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x00\x00\x07"}}, "kind 7"},
		{"half of an answer", nil, answers{{"\x05\x01\x00", "\x05\x00"}, {name, "\x05\x00\x00\x01\x00"}}, io.ErrUnexpectedEOF.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, done := socksServer(t, tt.script)
			_, err := (&Dialer{Proxy: &Proxy{URL: &url.URL{Scheme: "socks5", Host: server, User: tt.user}}}).Dial(t.Context(), "hub.example.com:8888")
			var of *ProxyError
			if !errors.As(err, &of) || of.Proxy != server || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestASOCKSServerThatSaysNothingIsNotWaitedForAfterTheEnd(t *testing.T) {
	ln := listen(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	over := errors.New("over")
	go func() { // ends with the connection
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.ReadFull(c, make([]byte, 3))
		cancel(over)
		io.Copy(io.Discard, c)
	}()
	if _, err := (&Proxy{URL: &url.URL{Scheme: "socks5", Host: ln.Addr().String()}}).dial(ctx, &net.Dialer{}, "hub.example.com:8888"); err == nil {
		t.Error("there is a connection")
	}
}

func TestAnAddressThatSOCKSCannotSayIsAnError(t *testing.T) {
	for _, address := range []string{"hub", "hub:port", "hub:70000", strings.Repeat("h", 256) + ":1"} {
		if b, err := appendSOCKS(nil, address); err == nil || !bytes.Equal(b, nil) {
			t.Errorf("%.10q: %x", address, b)
		}
	}
}
