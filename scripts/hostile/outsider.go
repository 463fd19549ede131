package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
)

// outsiders are attacks of somebody without a certificate, on the port of the hub.
var outsiders = []attack{
	{"outsider", "12 addresses with 256 silent connections each", silent},
	{"outsider", "4 addresses with 128 joins that say nothing", silentJoins},
	{"outsider", "handshakes with certificates of 200 KB", longHandshakes},
	{"outsider", "joins with false tokens and long names", falseJoins},
	{"outsider", "a certificate of another mesh", otherMesh},
	{"outsider", "a web page asks for the counters", foreignHosts},
}

// dialFrom connects to an address from another one.
func dialFrom(ctx context.Context, from, to string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	return d.DialContext(ctx, "tcp", to)
}

// fromAll holds n connections of each of so many addresses.
func fromAll(ctx context.Context, addresses, n int, open func(ctx context.Context, from string) (net.Conn, error)) int {
	var total atomic.Int64
	var wg sync.WaitGroup
	for i := range addresses {
		from := fmt.Sprint("127.0.1.", i+1)
		wg.Go(func() {
			total.Add(int64(hold(ctx, n, func(ctx context.Context) (net.Conn, error) { return open(ctx, from) })))
		})
	}
	wg.Wait()
	return int(total.Load())
}

// silent connects and says nothing.
func silent(ctx context.Context, m *mesh) (t tally, err error) {
	t.Tried = fromAll(ctx, 12, 256, func(ctx context.Context, from string) (net.Conn, error) { return dialFrom(ctx, from, m.hub) })
	return t, nil
}

// joining connects as a device does that wants to join, up to the end of the handshake.
func joining(ctx context.Context, m *mesh, from string, ballast ...[]byte) (*tls.Conn, ed25519.PrivateKey, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, nil, err
	}
	c, err := dialFrom(ctx, from, m.hub)
	if err != nil {
		return nil, nil, err
	}
	cert, err := identity.SelfSigned(key, time.Now())
	if err != nil {
		return nil, nil, err
	}
	cert.Certificate = append(cert.Certificate, ballast...)
	config := m.honest.verifier.ClientConfig(cert, identity.RoleHub, "", identity.JoinProto)
	if len(ballast) > 0 {
		go drip(ctx, c, config) // ends with c
		return tls.Client(c, config), key, nil
	}
	secured := tls.Client(c, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, nil, err
	}
	return secured, key, nil
}

// silentJoins takes the places of joining devices and asks for nothing; meanwhile a device with a good token must get in.
func silentJoins(ctx context.Context, m *mesh) (t tally, err error) {
	t.Tried = fromAll(ctx, 4, 128, func(ctx context.Context, from string) (net.Conn, error) {
		c, _, err := joining(ctx, m, from)
		return c, err
	})
	return t, nil
}

// longHandshakes shows 200 KB of certificates and holds back the end.
func longHandshakes(ctx context.Context, m *mesh) (t tally, err error) {
	extra := ballast()
	t.Tried = fromAll(ctx, 4, 250, func(ctx context.Context, from string) (net.Conn, error) {
		c, _, err := joining(ctx, m, from, extra...)
		if err != nil {
			return nil, err
		}
		return c.NetConn(), nil
	})
	return t, nil
}

// falseJoins asks to join with a token that nobody made, under names as long as fit.
func falseJoins(ctx context.Context, m *mesh) (t tally, err error) {
	other, err := identity.NewCA(time.Now())
	if err != nil {
		return t, err
	}
	token, err := other.NewToken("root", m.exit, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		return t, err
	}
	var letIn atomic.Int64
	t.Tried = fromAll(ctx, 4, 8, func(ctx context.Context, from string) (net.Conn, error) {
		c, key, err := joining(ctx, m, from)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		public := key.Public().(ed25519.PublicKey)
		proof, err := token.Prove(public, "hostile")
		if err != nil {
			return nil, err
		}
		b, err := json.Marshal(tunnel.JoinRequest{Key: public, Name: strings.Repeat("x\n", 700), Proof: proof})
		if err != nil {
			return nil, err
		}
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if err := tunnel.WriteHeader(c, tunnel.FieldMethod, "POST", tunnel.FieldPath, "/v1/join", tunnel.FieldRequest, base64.StdEncoding.EncodeToString(b)); err != nil {
			return nil, err
		}
		if h, err := tunnel.ReadHeader(c); err == nil && h[tunnel.FieldStatus] == "200" {
			letIn.Add(1)
		}
		return nil, net.ErrClosed
	})
	t.LetIn = int(letIn.Load())
	return t, nil
}

// otherMesh connects with a member's certificate of a mesh of its own, and as a hub.
func otherMesh(ctx context.Context, m *mesh) (t tally, err error) {
	other := &mesh{hub: m.hub, exit: m.exit}
	if other.ca, err = identity.NewCA(time.Now()); err != nil {
		return t, err
	}
	other.caPEM = other.ca.CertificatePEM()
	a, err := other.newMember("root")
	if err != nil {
		return t, err
	}
	a.verifier = m.honest.verifier // it believes the hub; the hub must not believe it
	for ctx.Err() == nil {
		t.Tried++
		if a.control(ctx) == nil {
			if a.session.Call(ctx, http.MethodGet, tunnel.PathHub, nil, nil, nil) == nil {
				t.LetIn++
			}
			a.session.Close()
		}
		pause(ctx, 20*time.Millisecond)
	}
	return t, nil
}

// foreignHosts asks for the counters of every process as a page in a browser does whose name leads to 127.0.0.1.
func foreignHosts(ctx context.Context, m *mesh) (t tally, err error) {
	client := &http.Client{Timeout: 5 * time.Second}
	for ctx.Err() == nil {
		for name, address := range m.metrics {
			if name == "off" {
				continue
			}
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
			if err != nil {
				return t, err
			}
			req.Host = "evil.example"
			resp, err := client.Do(req)
			if err != nil {
				continue
			}
			resp.Body.Close()
			t.Tried++
			if resp.StatusCode == http.StatusOK {
				t.LetIn++
			}
		}
		pause(ctx, 50*time.Millisecond)
	}
	return t, nil
}
