package etcd_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/store/etcd"
	"ztm/store/etcd/etcdtest"
)

// certificate writes a CA that is its own certificate, for both ends.
func certificate(t *testing.T) (cert, key string, pair tls.Certificate) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = file(t, "cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), file(t, "key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	if pair, err = tls.LoadX509KeyPair(cert, key); err != nil {
		t.Fatal(err)
	}
	return cert, key, pair
}

func file(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBothEndsShowCertificates(t *testing.T) {
	cert, key, pair := certificate(t)
	pool := x509.NewCertPool()
	pool.AddCert(pair.Leaf)
	server := httptest.NewUnstartedServer(etcdtest.New().Handler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	config, err := etcd.Files{CA: cert, Cert: cert, Key: key, User: file(t, "user", []byte("ztm:se:cret\n"))}.Load([]string{server.URL + "/"})
	if err != nil || config.User != "ztm" || config.Password != "se:cret" {
		t.Fatal(config, err)
	}
	config.User = ""
	if r := create(t, client(t, config), "k", "v"); !r.Done {
		t.Errorf("%+v", r)
	}
	config.TLS = &tls.Config{RootCAs: pool}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := client(t, config).Get(ctx, "k"); err == nil {
		t.Error("it was let in without a certificate")
	}
}

func TestFilesOfTheStoreAreChecked(t *testing.T) {
	cert, key, _ := certificate(t)
	nothing := file(t, "nothing", nil)
	for name, tt := range map[string]struct {
		files     etcd.Files
		endpoints []string
	}{
		"no endpoint":            {etcd.Files{CA: cert, Cert: cert, Key: key}, nil},
		"without TLS":            {etcd.Files{CA: cert, Cert: cert, Key: key}, []string{"http://127.0.0.1:2379"}},
		"a path":                 {etcd.Files{CA: cert, Cert: cert, Key: key}, []string{"https://127.0.0.1:2379/v3"}},
		"no CA":                  {etcd.Files{Cert: cert, Key: key}, []string{"https://e:1"}},
		"an empty CA":            {etcd.Files{CA: nothing, Cert: cert, Key: key}, []string{"https://e:1"}},
		"no certificate":         {etcd.Files{CA: cert}, []string{"https://e:1"}},
		"a user without a name":  {etcd.Files{CA: cert, Cert: cert, Key: key, User: nothing}, []string{"https://e:1"}},
		"a user that is not one": {etcd.Files{CA: cert, Cert: cert, Key: key, User: "nowhere"}, []string{"https://e:1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c, err := tt.files.Load(tt.endpoints); err == nil {
				t.Errorf("%+v", c)
			}
		})
	}
}
