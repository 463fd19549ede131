package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/splice"
)

// fixture is a mesh with the certificates of one hub and one member.
type fixture struct {
	verifier    *identity.Verifier
	hub, member tls.Certificate
	memberID    identity.ID
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	m := identitytest.New(t, time.Now())
	member := m.Member("bob")
	return &fixture{m.Verifier(), m.Hub().Cert, member.Cert, member.ID}
}

// relay is a hub's side of a relayed path: handshake, one block, and then the bare connection.
func (f *fixture) relay(raw net.Conn, answer func(Header) []string) (net.Conn, error) {
	c := tls.Server(&RecordConn{Conn: raw}, f.verifier.ServerConfig(func() tls.Certificate { return f.hub }, RelayProto))
	h, err := ReadHeader(c)
	if err != nil {
		return nil, err
	}
	return raw, WriteHeader(c, answer(h)...)
}

func (f *fixture) carry(address, ticket string) (net.Conn, error) {
	config := f.verifier.ClientConfig(f.member, identity.RoleHub, "", RelayProto)
	r, err := DialRelay(context.Background(), &Dialer{}, address, config)
	if err != nil {
		return nil, err
	}
	return r.Connect(context.Background(), f.memberID, ticket)
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// Both sides drop TLS after the 200. Neither may have read a byte of what follows, which comes at
// once.
func TestNoByteIsLostWhereTLSIsDropped(t *testing.T) {
	f := newFixture(t)
	ln := listen(t)
	hubErr := make(chan error, 1)
	go func() {
		hubErr <- func() error {
			for {
				raw, err := ln.Accept()
				if err != nil {
					return nil
				}
				c, err := f.relay(raw, func(Header) []string { return []string{FieldStatus, "200"} })
				if err != nil {
					return err
				}
				go func() { // an echo, whose first bytes leave together with the 200; ends with its connection
					io.WriteString(c, "first")
					io.Copy(c, c)
					c.Close()
				}()
			}
		}()
	}()
	for range 50 {
		c, err := f.carry(ln.Addr().String(), "")
		if err != nil {
			t.Fatal(err)
		}
		leg, ok := c.(*Leg)
		if !ok {
			t.Fatalf("a path is a %T: nobody can meet at its port", c)
		}
		io.WriteString(c, "second")
		leg.CloseWrite()
		got, err := io.ReadAll(c)
		if diff := cmp.Diff("firstsecond", string(got)); diff != "" || err != nil {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
		c.Close()
	}
	ln.Close()
	if err := <-hubErr; err != nil {
		t.Fatal(err)
	}
}

func TestARefusalOfTheHubComesThrough(t *testing.T) {
	f := newFixture(t)
	ln := listen(t)
	got := make(chan Header, 1)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		f.relay(raw, func(h Header) []string {
			got <- h
			return []string{FieldStatus, "503", FieldError, "destination_unavailable", FieldMessage, "endpoint is offline"}
		})
	}()
	_, err := f.carry(ln.Addr().String(), "ticket-1")
	var r *answer.Error
	if !errors.As(err, &r) {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff(answer.Error{Code: answer.Unavailable, Message: "endpoint is offline"}, *r); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := Header{FieldMethod: "CONNECT", FieldAuthority: string(f.memberID), FieldTicket: "ticket-1"}
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Errorf("the hub was asked (-want +got):\n%s", diff)
	}
}

func TestAMemberIsNotTakenForAHub(t *testing.T) {
	f := newFixture(t)
	ln := listen(t)
	go func() {
		raw, err := ln.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		tls.Server(raw, f.verifier.ServerConfig(func() tls.Certificate { return f.member }, RelayProto)).Handshake()
	}()
	if _, err := f.carry(ln.Addr().String(), ""); !errors.Is(err, identity.ErrWrongRole) {
		t.Errorf("got %v", err)
	}
}

func TestDialerGoesThroughProxies(t *testing.T) {
	target := listen(t)
	go func() {
		for {
			c, err := target.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "hello")
			c.Close()
		}
	}()
	cases := []struct {
		name, scheme string
		proxy        func(net.Conn) error
	}{
		{"http", "http", serveHTTPProxy},
		{"socks5", "socks5", serveSOCKS},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			ln := listen(t)
			proxied := make(chan error, 1)
			go func() {
				client, err := ln.Accept()
				if err == nil {
					err = c.proxy(client)
				}
				proxied <- err
			}()
			d := &Dialer{Proxy: &Proxy{URL: &url.URL{Scheme: c.scheme, Host: ln.Addr().String(), User: url.UserPassword("u", "secret")}}}
			conn, err := d.Dial(t.Context(), target.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, ok := conn.(*net.TCPConn); !ok {
				t.Errorf("the connection is a %T", conn)
			}
			got, _ := io.ReadAll(conn)
			if diff := cmp.Diff("hello", string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			conn.Close()
			if err := <-proxied; err != nil {
				t.Error(err)
			}
		})
	}
}

func serveHTTPProxy(client net.Conn) error {
	r, err := http.ReadRequest(bufio.NewReader(client))
	if err != nil {
		return err
	}
	if user, password, _ := parseProxyAuth(r); user != "u" || password != "secret" {
		return errors.New("no or wrong credentials")
	}
	up, err := net.Dial("tcp", r.Host)
	if err != nil {
		return err
	}
	io.WriteString(client, "HTTP/1.1 200 OK\r\n\r\n")
	_, _, err = splice.Join(context.Background(), client, up)
	return err
}

func parseProxyAuth(r *http.Request) (user, password string, ok bool) {
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	return r.BasicAuth()
}

// serveSOCKS knows as much of RFC 1928 and 1929 as the test needs.
func serveSOCKS(client net.Conn) error {
	r := bufio.NewReader(client)
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	r.Discard(int(head[1]))
	client.Write([]byte{5, 2})
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	r.Discard(int(head[1]))
	n, _ := r.ReadByte()
	r.Discard(int(n))
	client.Write([]byte{1, 0})
	request := make([]byte, 10) // CONNECT to an IPv4 address
	if _, err := io.ReadFull(r, request); err != nil {
		return err
	}
	up, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: request[4:8], Port: int(request[8])<<8 | int(request[9])})
	if err != nil {
		return err
	}
	client.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	_, _, err = splice.Join(context.Background(), client, up)
	return err
}

func TestProxyOptionsAreCheckedAndKeepTheirSecret(t *testing.T) {
	for _, s := range []string{"proxy:3128", "ftp://proxy:21", "http://proxy", "http://", "socks5://u:secret@"} {
		_, err := ParseProxy(s)
		if err == nil {
			t.Errorf("%q was taken", s)
		} else if got := err.Error(); strings.Contains(got, "secret") {
			t.Errorf("%q: the error shows the password: %s", s, got)
		}
	}
}
