package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Config says where a cluster is. Endpoints is required.
type Config struct {
	Endpoints []string    // URLs without a path: "https://e1:2379"
	TLS       *tls.Config // nil: what the system trusts, and no certificate
	User      string      // "": without a user
	Password  string
	Timeout   time.Duration // for an answer of one endpoint; zero: 1 s
}

func (c *Config) check() error {
	if len(c.Endpoints) == 0 {
		return fmt.Errorf("etcd: no endpoint is given")
	}
	for _, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" || u.User != nil || u.RawQuery != "" {
			return fmt.Errorf("etcd: endpoint %q: want https://HOST:PORT", e)
		}
	}
	return nil
}

// Files names the files that a client needs.
type Files struct {
	CA        string // PEM of the CA of etcd's certificates
	Cert, Key string // PEM of the client's certificate and key
	User      string // one line, USER:PASSWORD; "" is none
}

// Load returns the configuration for endpoints that ask for certificates. Endpoints without TLS are
// refused, on loopback too: a page in a browser of that machine could write to them.
func (f Files) Load(endpoints []string) (Config, error) {
	c := Config{Endpoints: endpoints}
	for i, e := range endpoints {
		c.Endpoints[i] = strings.TrimSuffix(e, "/")
		if !strings.HasPrefix(e, "https://") {
			return c, fmt.Errorf("etcd: endpoint %q: want https://HOST:PORT, where client certificates are asked for", e)
		}
	}
	roots, err := os.ReadFile(f.CA)
	if err != nil {
		return c, fmt.Errorf("etcd: its CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(roots) {
		return c, fmt.Errorf("etcd: its CA: %s has no certificate in PEM", f.CA)
	}
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		return c, fmt.Errorf("etcd: certificate: %w", err)
	}
	c.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, GetClientCertificate: f.certificate}
	if f.User == "" {
		return c, c.check()
	}
	line, err := os.ReadFile(f.User)
	if err != nil {
		return c, fmt.Errorf("etcd: user: %w", err)
	}
	var ok bool
	c.User, c.Password, ok = strings.Cut(strings.TrimSpace(string(line)), ":")
	if !ok || c.User == "" {
		return c, fmt.Errorf("etcd: user: want USER:PASSWORD in %s", f.User)
	}
	return c, c.check()
}

// certificate reads the certificate anew for each connection, so that it can be renewed.
func (f Files) certificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	return &cert, err
}
