package hub

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"testing"
	"time"

	"ztm/tunnel"
)

// Types and flags of HTTP/2 frames (RFC 9113 section 6).
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindow       = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1
	flagEndHeaders = 0x4
)

// rawClient speaks HTTP/2 frame by frame, also such as no client would send.
type rawClient struct {
	t testing.TB
	c *tls.Conn
}

// newRawClient opens a control session and sends the preface and settings, each of an identifier
// and a value.
func newRawClient(t testing.TB, d *device, settings ...[2]uint32) *rawClient {
	t.Helper()
	c, err := tls13(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.NetConn().Close() })
	f := &rawClient{t, c}
	var payload []byte
	for _, s := range settings {
		payload = binary.BigEndian.AppendUint16(payload, uint16(s[0]))
		payload = binary.BigEndian.AppendUint32(payload, s[1])
	}
	if _, err := io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	f.must(f.frame(frameSettings, 0, 0, payload))
	return f
}

// noWindow is a setting by which the hub may not send a byte of any answer:
// SETTINGS_INITIAL_WINDOW_SIZE.
var noWindow = [2]uint32{4, 0}

func (f *rawClient) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// frame writes one frame.
func (f *rawClient) frame(typ, flags byte, stream uint32, payload []byte) error {
	_, err := f.c.Write(appendFrame(nil, typ, flags, stream, payload))
	return err
}

func appendFrame(b []byte, typ, flags byte, stream uint32, payload []byte) []byte {
	n := len(payload)
	b = append(b, byte(n>>16), byte(n>>8), byte(n), typ, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// block encodes a request's header, each field as a literal that is not indexed (RFC 7541 section
// 6.2.2).
func block(method, path string) []byte {
	var b []byte
	for _, f := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "hub"}, {":path", path}} {
		b = append(b, 0, byte(len(f[0])))
		b = append(b, f[0]...)
		b = append(b, byte(len(f[1])))
		b = append(b, f[1]...)
	}
	return b
}

// get sends a request.
func (f *rawClient) get(stream uint32, path string) {
	f.t.Helper()
	f.must(f.frame(frameHeaders, flagEndStream|flagEndHeaders, stream, block("GET", path)))
}

// post begins a request whose body never comes.
func (f *rawClient) post(stream uint32, path string) {
	f.t.Helper()
	f.must(f.frame(frameHeaders, flagEndHeaders, stream, block("POST", path)))
}

// wantEnd waits until the hub has ended the connection.
func (f *rawClient) wantEnd() {
	f.t.Helper()
	f.c.SetReadDeadline(time.Now().Add(timeout))
	if _, err := io.Copy(io.Discard, f.c); isTimeout(err) {
		f.t.Error("the hub keeps the connection")
	}
}

// tlsLeg opens a connection for a path and says nothing on it.
func tlsLeg(d *device) (*tls.Conn, error) {
	return tls.Dial("tcp", d.hub.address(), d.config(tunnel.RelayProto))
}
