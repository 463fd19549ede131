package seal

import (
	"crypto/tls"
	"errors"
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
