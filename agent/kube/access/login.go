package access

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ztm/apps"
	"ztm/apps/listen"
	"ztm/apps/settings"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

const (
	tokenLife = 10 * time.Minute
	certLife  = 10 * 365 * 24 * time.Hour
	maxLogins = 64
)

// Login is a way to a cluster from this machine: a listener on loopback that takes the requests of
// whoever has a token of it. Another user of the machine has none.
type Login struct {
	// Name is that of an endpoint, or of a cluster to which several may lead. A pod that is made anew is
	// another endpoint, with the same name.
	Name        string `json:"name"`
	Cluster     bool   `json:"cluster,omitempty"` // the name is that of a cluster
	User        string `json:"user"`              // whose endpoints they are; nobody else who has the name is asked
	Listen      string `json:"listen"`            // 127.0.0.1:port
	Certificate string `json:"certificate"`       // PEM; the listener has this and no other
}

// Token is good for the requests of [tokenLife].
type Token struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// saved is a login as it is kept.
type saved struct {
	Login
	Key string `json:"key"` // PEM, of the certificate
}

// logins are the logins of an agent.
type logins struct {
	host   apps.Host             // static
	table  settings.Table[saved] // by name; changed under mu
	secret [32]byte              // static; signs tokens, until the agent ends

	mu   sync.Mutex
	all  map[string]*login // by name; guarded by mu
	ctx  context.Context   // of run; nil before and after; guarded by mu
	work sync.WaitGroup
}

// login is a login at work.
type login struct {
	saved
	stop context.CancelFunc // nil before it runs
}

func newLogins(h apps.Host) *logins {
	l := &logins{host: h, all: map[string]*login{}, table: settings.Table[saved]{State: h.State, Prefix: "login/"}}
	rand.Read(l.secret[:])
	if err := l.table.Each(func(name string, s saved) { l.all[name] = &login{saved: s} }); err != nil {
		h.Log.Error("some logins were not loaded", "err", err)
	}
	return l
}

func (l *logins) run(ctx context.Context) {
	l.mu.Lock()
	l.ctx = ctx
	for _, one := range l.all {
		if err := l.startLocked(one); err != nil {
			l.host.Log.Warn("a login does not listen", "login", one.Name, "listen", one.Listen, "err", err)
		}
	}
	l.mu.Unlock()
	<-ctx.Done()
	l.mu.Lock()
	l.ctx = nil
	l.mu.Unlock()
	l.work.Wait()
}

func (l *logins) list() []Login {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Login{}
	for _, name := range slices.Sorted(maps.Keys(l.all)) {
		out = append(out, l.all[name].Login)
	}
	return out
}

// add makes a login, of which the listener is not known yet, or returns the one there is.
func (l *logins) add(to Login) (Login, error) {
	if err := errors.Join(identity.CheckName(to.Name), identity.CheckName(to.User)); err != nil {
		return Login{}, answer.Errorf(answer.BadRequest, "%v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.all[to.Name]; one != nil {
		if one.User != to.User || one.Cluster != to.Cluster {
			return Login{}, answer.Errorf(answer.Conflict, "the login at %s is for the %s of user %s: remove it first", to.Name, one.kind(), one.User)
		}
		return one.Login, nil
	}
	if len(l.all) >= maxLogins {
		return Login{}, answer.Errorf(answer.Limit, "there are %d logins already", maxLogins)
	}
	certificate, key, err := selfSigned()
	if err != nil {
		return Login{}, err
	}
	to.Listen, to.Certificate = "127.0.0.1:0", certificate
	one := &login{saved: saved{to, key}}
	if err := l.startLocked(one); err != nil {
		return Login{}, err
	}
	if err := l.table.Set(to.Name, one.saved, nil); err != nil {
		one.end()
		return Login{}, err
	}
	l.all[to.Name] = one
	return one.Login, nil
}

// kind says what the name is that of.
func (o *Login) kind() string {
	if o.Cluster {
		return "cluster"
	}
	return "endpoint"
}

func (o *login) end() {
	if o.stop != nil {
		o.stop()
	}
}

func (l *logins) remove(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.all[name]
	if one == nil {
		return answer.Errorf(answer.NotFound, "there is no login at %s", name)
	}
	if err := l.table.Delete(name); err != nil {
		return err
	}
	delete(l.all, name)
	one.end()
	return nil
}

// startLocked opens the listener of a login. It keeps the port that it got first.
func (l *logins) startLocked(one *login) error {
	if l.ctx == nil {
		return answer.Errorf(answer.Unavailable, "the app kube is stopping")
	}
	pair, err := tls.X509KeyPair([]byte(one.Certificate), []byte(one.Key))
	if err != nil {
		return err
	}
	ln, err := listen.TCP(l.ctx, "tcp", one.Listen)
	if err != nil {
		at, _ := netip.ParseAddrPort(one.Listen)
		return listen.Error(one.Listen, at.Port(), err)
	}
	one.Listen = ln.Addr().String()
	ctx, cancel := context.WithCancel(l.ctx)
	one.stop = cancel
	way := l.transport(one.Login)
	server := &http.Server{Handler: l.handler(one.Name, way), ReadHeaderTimeout: headerTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}},
		ErrorLog:  slog.NewLogLogger(l.host.Log.Handler(), slog.LevelDebug), BaseContext: func(net.Listener) context.Context { return ctx }}
	l.work.Go(func() {
		defer context.AfterFunc(ctx, func() { server.Close() })()
		server.ServeTLS(ln, "", "")
		ln.Close()
		way.CloseIdleConnections()
	})
	return nil
}

// handler takes the requests of whoever has a token of a login to where that leads.
func (l *logins) handler(name string, way http.RoundTripper) http.Handler {
	proxy := &httputil.ReverseProxy{
		Transport: way, FlushInterval: -1, ErrorLog: slog.NewLogLogger(l.host.Log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", "kube", "kube"
			asIs(pr)
			pr.Out.Header.Del("Authorization") // it was for this listener
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			fail(w, http.StatusBadGateway, answer.Public(err).Message)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !l.valid(name, token) {
			fail(w, http.StatusUnauthorized, "the token is missing, wrong or expired: use ztm kube token")
			return
		}
		proxy.ServeHTTP(w, r)
	})
}

// token makes a token for a login.
func (l *logins) token(name string) (Token, error) {
	l.mu.Lock()
	one := l.all[name]
	l.mu.Unlock()
	if one == nil {
		return Token{}, answer.Errorf(answer.NotFound, "there is no login at %s: make one with ztm kube login", name)
	}
	until := time.Now().Add(tokenLife).Truncate(time.Second)
	b := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	return Token{base64.RawURLEncoding.EncodeToString(append(b, l.sign(name, b)...)), until}, nil
}

func (l *logins) sign(name string, until []byte) []byte {
	mac := hmac.New(sha256.New, l.secret[:])
	mac.Write(until)
	mac.Write([]byte(name))
	return mac.Sum(nil)
}

// valid reports whether a token is good for a login now.
func (l *logins) valid(name, token string) bool {
	b, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(b) != 8+sha256.Size || !hmac.Equal(b[8:], l.sign(name, b[:8])) {
		return false
	}
	return time.Now().Before(time.Unix(int64(binary.BigEndian.Uint64(b)), 0))
}

// selfSigned makes a certificate for loopback, and its key.
func selfSigned() (certificate, key string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", "", err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return "", "", err
	}
	template := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "ztm kube login"}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(certLife),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		return "", "", err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})), nil
}
