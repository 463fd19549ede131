package splice_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"syscall"
	"testing"

	"ztm/tunnel/splice"
)

func TestAbortOfTCPIsAReset(t *testing.T) {
	outer, inner := tcp(t)
	splice.Abort(inner)
	reads(t, outer, "", syscall.ECONNRESET)
}

// ender is a connection that ends itself.
type ender struct {
	net.Conn
	resets int
}

func (e *ender) Reset() error { e.resets++; return nil }

func TestAbortUsesTheResetOfTheConnection(t *testing.T) {
	_, inner := tcp(t)
	e := &ender{Conn: inner}
	splice.Abort(e)
	if e.resets != 1 {
		t.Errorf("Reset was called %d times", e.resets)
	}
}

func TestAbortOfTLSIsNotACleanEnd(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	outer, inner := tcp(t)
	server := tls.Server(inner, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{cert}, PrivateKey: key}}})
	client := tls.Client(outer, &tls.Config{InsecureSkipVerify: true})
	sent := make(chan error, 1)
	go func() { // ends with the receive below
		_, err := server.Write([]byte("x"))
		sent <- err
	}()
	if _, err := io.ReadFull(client, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	splice.Abort(server)
	reads(t, client, "", syscall.ECONNRESET)
}
