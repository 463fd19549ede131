package etcd_test

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"testing"
	"time"

	"ztm/store/etcd"
	"ztm/store/etcd/etcdtest"
)

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	cert, key, err := etcdtest.Certificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
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
	cert, key := certificate(t)
	m, err := etcdtest.New().StartTLS(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	config, err := etcd.Files{CA: cert, Cert: cert, Key: key, User: file(t, "user", []byte("ztm:se:cret\n"))}.Load([]string{m.URL + "/"})
	if err != nil || config.User != "ztm" || config.Password != "se:cret" {
		t.Fatal(config, err)
	}
	config.User = ""
	if r := create(t, client(t, config), "k", "v"); !r.Done {
		t.Errorf("%+v", r)
	}
	config.TLS = &tls.Config{RootCAs: config.TLS.RootCAs}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := client(t, config).Get(ctx, "k"); err == nil {
		t.Error("it was let in without a certificate")
	}
}

func TestFilesOfTheStoreAreChecked(t *testing.T) {
	cert, key := certificate(t)
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
