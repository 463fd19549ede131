package websocket

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"ztm/apps/appstest"
)

func TestMain(m *testing.M) { os.Exit(appstest.Run(m)) }

// over returns a connection that reads the bytes given, and what it writes.
func over(in []byte) (*Conn, *bytes.Buffer) {
	out := &bytes.Buffer{}
	conn := &tape{r: bytes.NewReader(in), w: out}
	return &Conn{conn: conn, r: bufio.NewReader(conn), stop: make(chan struct{})}, out
}

type tape struct {
	net.Conn
	r io.Reader
	w io.Writer
}

func (t *tape) Read(p []byte) (int, error)       { return t.r.Read(p) }
func (t *tape) Write(p []byte) (int, error)      { return t.w.Write(p) }
func (t *tape) Close() error                     { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

// frame is a frame as a browser writes it.
func frame(first byte, p string) []byte {
	b := appendHeader(nil, 0, len(p))
	b[0], b[1] = first, b[1]|masked
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i := range len(p) {
		b = append(b, p[i]^mask[i%4])
	}
	return b
}

func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

func TestAMessageInPartsArrivesWhole(t *testing.T) {
	long := strings.Repeat("x", 70_000)
	c, out := over(join(frame(1, "hel"), frame(final|opPing, "are you there"), frame(final|opMore, "lo"), frame(final|2, long)))
	k, p, err := c.Read()
	if k != Text || string(p) != "hello" || err != nil {
		t.Errorf("got %v %q %v", k, p, err)
	}
	if k, p, err = c.Read(); k != Binary || string(p) != long || err != nil {
		t.Errorf("got %v, %d bytes, %v", k, len(p), err)
	}
	if want := append([]byte{final | opPong, 13}, "are you there"...); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("the ping in the middle was answered with %q", out.Bytes())
	}
}

func TestAGoodbyeIsAnEndAndIsAnswered(t *testing.T) {
	c, out := over(frame(final|opClose, "\x03\xe8bye"))
	if _, _, err := c.Read(); err != io.EOF {
		t.Errorf("error %v", err)
	}
	if want := []byte{final | opClose, 2, 3, 0xe8}; !bytes.Equal(out.Bytes(), want) {
		t.Errorf("answered with %x", out.Bytes())
	}
	if err := c.Write(Text, []byte("more")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a message after the goodbye: %v", err)
	}
}

func TestWhatNoBrowserSendsEndsTheConnectionWithTheReason(t *testing.T) {
	unmasked := []byte{final | 1, 2, 'h', 'i'}
	for name, tt := range map[string]struct {
		in   []byte
		code uint16
	}{
		"no mask":                    {unmasked, mistaken},
		"a reserved bit":             {frame(final|0x40|1, "x"), mistaken},
		"an unknown kind":            {frame(final|3, "x"), mistaken},
		"an unknown control":         {frame(final|0xb, ""), mistaken},
		"a ping in parts":            {frame(opPing, ""), mistaken},
		"a ping that is long":        {frame(final|opPing, strings.Repeat("x", 126)), mistaken},
		"more of nothing":            {frame(final|opMore, "x"), mistaken},
		"a message within a message": {join(frame(1, "x"), frame(final|1, "y")), mistaken},
		"text that is none":          {frame(final|1, "\xff"), notText},
		"too long":                   {append([]byte{final | 2, masked | 127}, binary.BigEndian.AppendUint64(nil, MaxMessage+1)...), tooBig},
		"too long in parts":          {join(frame(2, strings.Repeat("x", MaxMessage)), frame(final|opMore, "y")), tooBig},
		"longer than any number":     {append([]byte{final | 2, masked | 127}, bytes.Repeat([]byte{0xff}, 8)...), tooBig},
	} {
		c, out := over(tt.in)
		_, _, err := c.Read()
		var bad *protocolError
		if !errors.As(err, &bad) || bad.code != tt.code {
			t.Errorf("%s: error %v", name, err)
		}
		if want := binary.BigEndian.AppendUint16([]byte{final | opClose, 2}, tt.code); !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s: answered with %x, want %x", name, out.Bytes(), want)
		}
	}
}

func TestAConnectionThatIsCutOffIsNoEnd(t *testing.T) {
	whole := frame(final|2, strings.Repeat("x", 300))
	for n := range len(whole) {
		c, _ := over(whole[:n])
		if _, _, err := c.Read(); err != io.ErrUnexpectedEOF {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestTheHandshakeIsThatOfTheStandard(t *testing.T) {
	if got := proof("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" { // RFC 6455 section 1.3
		t.Errorf("proof %q", got)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := Accept(w, r, "ztm")
		if err != nil {
			return
		}
		defer c.Close()
		k, p, err := c.Read()
		if err == nil {
			c.Write(k, p)
		}
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	req, _ := http.NewRequest("GET", srv.URL, nil)
	req.Header = http.Header{"Upgrade": {"websocket"}, "Connection": {"keep-alive, Upgrade"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Version": {"13"}}
	if !Requested(req) {
		t.Error("it is not seen as a request for a connection")
	}
	req.Write(conn)
	conn.Write(frame(final|1, "hello"))
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Sec-Websocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Fatalf("answer %v, %v", resp, err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "\x81\x05hello\x88\x02\x03\xe8" {
		t.Errorf("got %q", rest)
	}
	resp, err = http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if http.DefaultClient.CloseIdleConnections(); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a request that is none: status %d", resp.StatusCode)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(frame(final|1, "hello"))
	f.Add(join(frame(1, "hel"), frame(final|opPing, ""), frame(final|opMore, "lo")))
	f.Add(frame(final|opClose, ""))
	f.Add([]byte{final | 2, masked | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, in []byte) {
		c, _ := over(in)
		for {
			_, p, err := c.Read()
			if len(p) > len(in) || cap(c.buf) > 2*MaxMessage {
				t.Fatalf("%d bytes of memory for %d bytes", cap(c.buf), len(in))
			}
			if err != nil {
				return
			}
		}
	})
}
