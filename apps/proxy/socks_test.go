package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
	"ztm/apps/proxy/clients"
	"ztm/apps/proxy/dns/dnstest"
)

// target makes a mesh of an entrance and an exit, where svc.example.com:80 is an echo, and other ports of it fail in
// all the ways there are. It returns the address of the entrance.
func target(t testing.TB) (address string, in, out *endpoint) {
	t.Helper()
	closed := serveTCP(t, func(*net.TCPConn) {})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := ln.Addr().String()
	ln.Close()
	in, out = pair(t, Options{
		Resolver: dnstest.Names{"svc.example.com": "10.0.0.1", "slow.example.com": "10.0.0.2", "hidden.example.com": "10.0.0.3", "six.example.com": "fd00::1"},
		Dial: dialTo(map[string]string{
			"10.0.0.1:80": echo(t), "10.0.0.1:81": refusing, "10.0.0.1:83": closed, "[fd00::1]:80": echo(t),
		}),
	}, "*.example.com", "10.0.0.0/24", "fd00::/8")
	out.change(t, Change{AddExclusions: []string{"10.0.0.3"}})
	return in.listen(t), in, out
}

func TestSOCKS(t *testing.T) {
	address, _, _ := target(t)
	name := func(s string) string { return hex.EncodeToString(append([]byte{byte(len(s))}, s...)) }
	const ok5 = "05000001000000000000"
	for _, tt := range []struct {
		name       string
		send, want string // hexadecimal; want "" is: closed without a word
		echoes     bool   // and then it is the echo
	}{
		{"5, by name", "050100" + "05010003" + name("svc.example.com") + "0050", "0500" + ok5, true},
		{"5, by name in capitals with a dot", "050100" + "05010003" + name("SVC.Example.Com.") + "0050", "0500" + ok5, true},
		{"5, by IPv4", "050100" + "050100010a0000010050", "0500" + ok5, true},
		{"5, by IPv6", "050100" + "05010004fd0000000000000000000000000000010050", "0500" + ok5, true},
		{"5, by mapped IPv4", "050100" + "0501000400000000000000000000ffff0a0000010050", "0500" + ok5, true},
		{"5, without a password although it is offered", "05020002" + "050100010a0000010050", "0500" + ok5, true},
		{"5, with a password although none is needed", "050102" + "0101610162" + "050100010a0000010050", "05020100" + ok5, true},
		{"5, refused by the target", "050100" + "050100010a0000010051", "050005050001000000000000", false},
		{"5, not reachable", "050100" + "050100010a0000010052", "050005040001000000000000", false},
		{"5, name that does not resolve", "050100" + "05010003" + name("no.example.com") + "0050", "050005040001000000000000", false},
		{"5, excluded", "050100" + "050100010a0000030050", "050005020001000000000000", false},
		{"5, no exit", "050100" + "05010001080808080050", "050005030001000000000000", false},
		{"5, port 0", "050100" + "050100010a0000010000", "050005010001000000000000", false},
		{"5, BIND", "050100" + "050200010a0000010050", "050005070001000000000000", false},
		{"5, command 9", "050100" + "050900010a0000010050", "050005070001000000000000", false},
		{"5, address type 2", "050100" + "050100020a0000010050", "050005080001000000000000", false},
		{"5, empty name", "050100" + "0501000300" + "0050", "050005080001000000000000", false},
		{"5, name with NUL", "050100" + "05010003" + name("svc\x00.example.com") + "0050", "050005080001000000000000", false},
		{"5, address in decimal", "050100" + "05010003" + name("167772161") + "0050", "050005080001000000000000", false},
		{"5, no method", "0500", "05ff", false},
		{"5, GSSAPI alone", "050101", "05ff", false},
		{"5, wrong version in the request", "050100" + "040100010a0000010050", "0500", false},
		{"5, reserved byte", "050100" + "050101010a0000010050", "0500", false},
		{"5, wrong version of the password", "050102" + "0501610162", "0502", false},
		{"4, by IPv4", "040100500a000001" + "00", "005a000000000000", true},
		{"4, with a user", "040100500a000001" + hex.EncodeToString([]byte("me")) + "00", "005a000000000000", true},
		{"4a, by name", "0401005000000001" + "00" + hex.EncodeToString([]byte("svc.example.com")) + "00", "005a000000000000", true},
		{"4, refused by the target", "040100510a000001" + "00", "005b000000000000", false},
		{"4, no exit", "0401005008080808" + "00", "005b000000000000", false},
		{"4, BIND", "040200500a000001" + "00", "005b000000000000", false},
		{"4, user of 300 bytes", "040100500a000001" + strings.Repeat("61", 300) + "00", "", false},
		{"4a, name of 300 bytes", "0401005000000001" + "00" + strings.Repeat("61", 300) + "00", "", false},
		{"3", "03010050", "", false},
		{"TLS", "1603010200010001fc0303", "", false},
		{"lower case", hex.EncodeToString([]byte("get / http/1.1\r\n\r\n")), "", false},
	} {
		for _, split := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				c := dialTCP(t, address)
				send, want := unhex(t, tt.send), unhex(t, tt.want)
				if tt.echoes {
					send, want = append(send, "hello"...), append(want, "hello"...)
				}
				for len(send) > 0 {
					n := len(send)
					if split { // each byte in its own segment, as far as the network lets us
						n = 1
					}
					c.Write(send[:n])
					send = send[n:]
				}
				if tt.echoes {
					c.CloseWrite()
				}
				got, err := io.ReadAll(c)
				if !bytes.Equal(got, want) || err != nil && tt.want != "" {
					t.Errorf("got %x, %v; want %x", got, err, want)
				}
			})
		}
	}
}

func unhex(t *testing.T, s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWithCredentialsThereIsNoWayWithout(t *testing.T) {
	address, in, _ := target(t)
	if err := in.call("PUT", "/credentials/me", map[string]string{"password": "secret"}, nil); err != nil {
		t.Fatal(err)
	}
	connect := "050100010a0000010050"
	for _, tt := range []struct{ name, send, want string }{
		{"right password", "050102" + "01026d6506736563726574" + connect, "05020100" + "05000001000000000000"},
		{"right password, and none", "05020002" + "01026d6506736563726574" + connect, "05020100" + "05000001000000000000"},
		{"no password", "050100" + connect, "05ff"},
		{"wrong password", "050102" + "01026d6506736563726575" + connect, "05020101"},
		{"empty password", "050102" + "01026d6500" + connect, "05020101"},
		{"unknown user", "050102" + "0103796f7506736563726574" + connect, "05020101"},
		{"SOCKS4", "040100500a00000100", "005d000000000000"},
		{"SOCKS4 with the user", "040100500a0000016d6500", "005d000000000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialTCP(t, address)
			c.Write(unhex(t, tt.send))
			c.CloseWrite()
			got, _ := io.ReadAll(c)
			if !bytes.Equal(got, unhex(t, tt.want)) {
				t.Errorf("got %x, want %s", got, tt.want)
			}
		})
	}
}

func TestAChangedPasswordEndsItsConnections(t *testing.T) {
	address, in, _ := target(t)
	set := func(user, password string) {
		t.Helper()
		if err := in.call("PUT", "/credentials/"+user, map[string]string{"password": password}, nil); err != nil {
			t.Fatal(err)
		}
	}
	open := func(auth string) *net.TCPConn {
		t.Helper()
		c := dialTCP(t, address)
		request := unhex(t, auth+"050100010a0000010050")
		c.Write(request)
		answer := make([]byte, 12)
		if auth != "050100" {
			answer = make([]byte, 14)
		}
		if _, err := io.ReadFull(c, answer); err != nil || answer[len(answer)-9] != 0 {
			t.Fatalf("answer %x, %v", answer, err)
		}
		return c
	}
	nobody := open("050100")
	set("me", "secret")
	assertCut(t, "a client without a password, now that there is one", nobody)
	set("you", "secret")
	me, you := open("050102"+"01026d6506736563726574"), open("050102"+"0103796f7506736563726574")
	set("me", "changed")
	assertCut(t, "a client whose password changed", me)
	assertEchoes(t, you)
	if err := in.call("DELETE", "/credentials/you", nil, nil); err != nil {
		t.Fatal(err)
	}
	assertCut(t, "a client whose password was removed", you)
}

func assertCut(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if _, err := io.ReadFull(c, make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("%s: %v, want a broken connection", what, err)
	}
}

func assertEchoes(t *testing.T, c net.Conn) {
	t.Helper()
	c.Write([]byte("hello"))
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
		t.Errorf("echo: %q, %v", got, err)
	}
}

func TestTheTargetMaySpeakFirst(t *testing.T) {
	banner := serveTCP(t, func(c *net.TCPConn) { c.Write([]byte("220 ready\r\n")) })
	in, _ := pair(t, Options{Dial: dialTo(map[string]string{"10.0.0.1:25": banner})}, "10.0.0.0/8")
	c := dialTCP(t, in.listen(t))
	c.Write(unhex(t, "050100050100010a0000010019"))
	got, err := io.ReadAll(c)
	if err != nil || !bytes.HasSuffix(got, []byte("220 ready\r\n")) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestHowAConnectionEndsComesThrough(t *testing.T) {
	aborting := serveTCP(t, func(c *net.TCPConn) {
		io.ReadFull(c, make([]byte, 1))
		c.SetLinger(0) // a reset, not an end
	})
	heard := make(chan int64, 1)
	half := serveTCP(t, func(c *net.TCPConn) {
		c.CloseWrite() // the target has nothing to say, and listens on
		n, _ := io.Copy(io.Discard, c)
		heard <- n
	})
	in, _ := pair(t, Options{Dial: dialTo(map[string]string{"10.0.0.1:1": aborting, "10.0.0.1:2": half})}, "10.0.0.0/8")
	address := in.listen(t)

	c := dialTCP(t, address)
	c.Write(unhex(t, "050100050100010a0000010001"+"78"))
	if got, err := io.ReadAll(c); err == nil {
		t.Errorf("an aborted connection ended cleanly, after %x", got)
	}

	c = dialTCP(t, address)
	c.Write(unhex(t, "050100050100010a0000010002"))
	if got, err := io.ReadAll(c); err != nil || len(got) != 12 {
		t.Errorf("got %x, %v", got, err)
	}
	c.Write([]byte("hello"))
	c.CloseWrite()
	if n := <-heard; n != 5 {
		t.Errorf("the target got %d bytes after its own end, want 5", n)
	}
}

// What answers say: of SOCKS4, and the methods of SOCKS5.
const (
	granted, rejected, noUser = 90, 91, 93
	noPassword, password5     = 0, 2
)

// FuzzSOCKS: whatever a client sends, the proxy answers in whole replies, or not at all, and lets go.
func FuzzSOCKS(f *testing.F) {
	for _, seed := range []string{
		"050100050100010a0000010050", "0502000205010003036162630050", "0501020101610162050300010000000000000000",
		"040100500a00000100", "0401005000000001006100", "05010005010004fd000000000000000000000000000001ffff", "04", "0500", "05ff",
	} {
		b, err := hex.DecodeString(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, false)
		f.Add(b, true)
	}
	var n appstest.Net
	host := n.Join("in", "alice")
	app := host.New("proxy", New).(*App)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		app.exits.Run(ctx)
	}()
	f.Cleanup(func() { cancel(); <-ended })
	f.Fuzz(func(t *testing.T, input []byte, locked bool) {
		if len(input) == 0 || len(input) > 2<<10 {
			return
		}
		users := map[string]clients.Credential{}
		if locked {
			users["a"] = clients.Credential{Salt: []byte("salt"), Rounds: 1}
		}
		credentials := clients.NewCredentials()
		credentials.Set(users)
		s := newEntrance(app.router, credentials, slog.New(slog.DiscardHandler))
		var answer bytes.Buffer
		s.serve(ctx, clients.NewClient(fuzzConn{Reader: bytes.NewReader(append([]byte{4 + input[0]&1}, input[1:]...)), answer: &answer}))
		checkReplies(t, answer.Bytes(), locked)
	})
}

// fuzzConn is a connection whose client says something, ends its direction, and listens.
type fuzzConn struct {
	net.Conn
	*bytes.Reader
	answer *bytes.Buffer
}

func (c fuzzConn) Read(p []byte) (int, error)      { return c.Reader.Read(p) }
func (c fuzzConn) Close() error                    { return nil }
func (c fuzzConn) SetDeadline(time.Time) error     { return nil }
func (c fuzzConn) SetReadDeadline(time.Time) error { return nil }

func (c fuzzConn) Write(p []byte) (int, error) { return c.answer.Write(p) }
func (c fuzzConn) LocalAddr() net.Addr         { return &net.UnixAddr{} }
func (c fuzzConn) RemoteAddr() net.Addr        { return &net.UnixAddr{} }

func checkReplies(t *testing.T, b []byte, locked bool) {
	switch {
	case len(b) == 0:
	case b[0] == 0: // SOCKS4
		if len(b) != 8 || b[1] < granted || b[1] > noUser || b[1] == granted {
			t.Fatalf("answer %x", b)
		}
	case b[0] != 5 || len(b) < 2 || locked && b[1] == noPassword:
		t.Fatalf("answer %x", b)
	case b[1] == password5 && len(b) >= 4 && locked && b[3] == 0:
		t.Fatalf("a password that nobody has was accepted: %x", b)
	}
}
