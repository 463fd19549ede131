package tunnel

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"ztm/tunnel/handshake"
)

// Whoever connects may show a certificate of any size before it is known who that is, and so may
// whoever answers.
func TestAHandshakeThatDoesNotEndIsCutOff(t *testing.T) {
	f := newFixture(t)
	huge := f.member
	huge.Certificate = [][]byte{make([]byte, 200<<10)}
	outsider := &tls.Config{
		InsecureSkipVerify: true, NextProtos: []string{RelayProto}, Certificates: []tls.Certificate{huge},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &huge, nil },
	}
	t.Run("a hub's", func(t *testing.T) {
		ln := listen(t)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
				tls.Client(c, outsider).Handshake()
				c.Close()
			}
		}()
		raw, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c := tls.Server(&RecordConn{Conn: raw}, f.verifier.ServerConfig(func() tls.Certificate { return f.hub }, RelayProto))
		if err := c.HandshakeContext(t.Context()); !errors.Is(err, handshake.ErrTooLong) {
			t.Errorf("got %v, want %v", err, handshake.ErrTooLong)
		}
		raw.Close()
		<-ended
	})
	t.Run("an agent's", func(t *testing.T) {
		ln := listen(t)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if c, err := ln.Accept(); err == nil {
				tls.Server(c, outsider).Handshake()
				c.Close()
			}
		}()
		if _, err := f.carry(ln.Addr().String(), ""); !errors.Is(err, handshake.ErrTooLong) {
			t.Errorf("got %v, want %v", err, handshake.ErrTooLong)
		}
		<-ended
	})
}
