package seal

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"ztm/apps/appstest"
	"ztm/tunnel/handshake"
)

func TestAHandshakeEndsWhereItIsTooLong(t *testing.T) {
	members := newMembers(t, "eve", "bob")
	eve, bob := members[0], members[1]
	near, far, err := appstest.Pair("tcp")
	if err != nil {
		t.Fatal(err)
	}
	cert := eve.cert
	cert.Certificate = [][]byte{make([]byte, 200<<10)}
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{SessionProto},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }}
	var wg sync.WaitGroup
	wg.Go(func() { tls.Client(near, config).HandshakeContext(t.Context()) })
	_, err = Server(t.Context(), far, bob.v, func() tls.Certificate { return bob.cert }, nil)
	if !errors.Is(err, handshake.ErrTooLong) {
		t.Errorf("a certificate message of 200 KiB ended with %v, want %v", err, handshake.ErrTooLong)
	}
	near.Close()
	wg.Wait()
}

// A peer that is nobody yet may begin handshakes on many paths.
func TestAHandshakeThatWaitsHoldsASmallBuffer(t *testing.T) {
	record := append([]byte{22, 3, 1, 0x3f, 0}, make([]byte, 0x3f00)...)
	b := newBatch(&endedBy{Reader: bytes.NewReader(record)})
	if _, err := io.ReadFull(b, make([]byte, len(record))); err != nil {
		t.Fatal(err)
	}
	if n := b.in.own.Size(); n > 4<<10 {
		t.Errorf("it holds a buffer of %d bytes", n)
	}
}

// endedBy is a path of which one direction is there.
type endedBy struct {
	net.Conn
	io.Reader
}

func (e *endedBy) Read(p []byte) (int, error) { return e.Reader.Read(p) }
