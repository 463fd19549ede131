// Command h2server serves requests on the HTTP/2 of the product, over TLS, for the tools of others: h2spec, curl, nghttp, h2load.
//
//	go run ./scripts/h2server 127.0.0.1:8443 &
//	h2spec -h 127.0.0.1 -p 8443 -t -k
//
// A request gets its own body back, or a line of text if it has none. The certificate is made at the start.
package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"ztm/tunnel/h2"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: h2server ADDRESS")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "h2server:", serve(os.Args[1]))
	os.Exit(1)
}

// serve returns when it cannot go on.
func serve(address string) error {
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	ln, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12})
	if err != nil {
		return err
	}
	handler := h2.Handler(context.Background(), http.HandlerFunc(echo))
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go accept(c, handler) // ends with the connection
	}
}

func accept(c net.Conn, handler func(*h2.Stream)) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := c.(*tls.Conn).HandshakeContext(ctx); err != nil {
		c.Close()
		return
	}
	s := h2.ServerConn(c, h2.Options{Handler: handler, Idle: 30 * time.Second, MaxStreams: 100, Window: 65535})
	<-s.Done()
}

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain")
	if n, _ := io.Copy(w, r.Body); n == 0 {
		io.WriteString(w, "This is HTTP/2.\n")
	}
}

func selfSigned() (tls.Certificate, error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, public, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}
