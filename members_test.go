package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ztm/agent/api"
	"ztm/apps"
	"ztm/apps/appstest"
	"ztm/hub"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/identity/identitytest"
	"ztm/tunnel/seal"
)

// forge makes a member certificate with the CA key of the root permit: what an attacker inside the
// mesh holds.
func (w *world) forge(user string) (*identity.Verifier, tls.Certificate, ed25519.PrivateKey) {
	w.t.Helper()
	return w.forgeAdmitted(user, time.Now())
}

// forgeAdmitted is forge for a device that was admitted at a time.
func (w *world) forgeAdmitted(user string, admitted time.Time) (*identity.Verifier, tls.Certificate, ed25519.PrivateKey) {
	w.t.Helper()
	ca, p := w.ca()
	key, err := identity.NewKey()
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := ca.SignMember(key.Public().(ed25519.PublicKey), user, admitted, time.Now())
	if err != nil {
		w.t.Fatal(err)
	}
	trust, err := identity.NewTrust([]byte(p.CA))
	if err != nil {
		w.t.Fatal(err)
	}
	return identity.NewVerifier(trust, identity.NewClock()), identity.TLSCertificate(der, key), key
}

func (w *world) ca() (*identity.CA, *identity.Permit) {
	w.t.Helper()
	b, err := os.ReadFile(w.path("root.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		w.t.Fatal(err)
	}
	ca, err := identity.ParseCA([]byte(p.CA), []byte(p.CAKey))
	if err != nil {
		w.t.Fatal(err)
	}
	return ca, p
}

func (w *world) endpoint(name string) apps.Endpoint {
	w.t.Helper()
	var all []apps.Endpoint
	if err := json.Unmarshal([]byte(w.ztm("root", "get", "ep", "-o", "json")), &all); err != nil {
		w.t.Fatal(err)
	}
	for _, e := range all {
		if e.Name == name {
			return e
		}
	}
	w.t.Fatalf("no endpoint %s", name)
	return apps.Endpoint{}
}

func TestHeadersAndQueriesDoNotChangeWhoAsks(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.join("bob", "bob")
	w.ztm("bob", "tunnel", "open", "outbound", "tcp/web", "--targets", echoServer(t), "--users", "root")
	bob := w.endpoint("ep-bob")
	s := w.intruder("eve").session(t, bob.ID)
	for _, path := range []string{seal.PathApps + "tunnel/tcp/web?user=root&username=root&peer=" + string(w.endpoint("ep-root").ID), seal.PathAPI + "stats?user=bob", seal.PathAPI + "apps/tunnel/outbound/tcp/web"} {
		req, _ := http.NewRequest(http.MethodPost, "http://peer"+path, strings.NewReader("{}"))
		for _, h := range []string{"X-User", "X-Forwarded-User", "Ztm-User", "User", "X-Peer", "Ztm-Client", "Authorization", "X-Client-Cert", "Via"} {
			req.Header.Set(h, "root")
		}
		resp, err := s.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if diff := cmp.Diff(http.StatusForbidden, resp.StatusCode); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestAMembersCertificateDoesNotMakeAHub(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	v, cert, _ := w.forge("eve")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	asked := make(chan struct{}, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, v.ServerConfig(func() tls.Certificate { return cert }, tunnel.ControlProto))
			if n, _ := c.Read(make([]byte, 1)); n > 0 {
				asked <- struct{}{}
			}
			c.Close()
		}
	})
	b, _ := os.ReadFile(w.path("root.json"))
	w.write("fake.json", strings.ReplaceAll(string(b), w.address, ln.Addr().String()))
	w.startAgent("victim")
	_, errs, status := w.try("victim", "join", "demo", "--as", "ep-victim", "--permit", w.path("fake.json"))
	if status != 1 || !strings.Contains(errs, "member's certificate") {
		t.Errorf("exit status %d, %s", status, errs)
	}
	ln.Close()
	wg.Wait()
	if len(asked) > 0 {
		t.Error("the agent sent a request to the false hub")
	}
	if diff := cmp.Diff("", strings.TrimSpace(strings.Join(strings.Split(w.ztm("victim", "get", "mesh"), "\n")[1:], "\n"))); diff != "" {
		t.Errorf("something was kept (-want +got):\n%s", diff)
	}
}

func TestATokenAdmitsOneDevice(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("token.json"))
	b, err := os.ReadFile(w.path("token.json"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := identity.NewTrust([]byte(p.CA))
	if err != nil {
		t.Fatal(err)
	}
	v := identity.NewVerifier(trust, identity.NewClock())
	var mu sync.Mutex
	results := map[string]int{}
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			err := redeemOnce(w, v, p, fmt.Sprintf("ep-%d", i))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				results["admitted"]++
			case slices.Contains([]answer.Code{answer.Denied, answer.Limit, answer.Unavailable}, answer.CodeOf(err)):
				results["refused"]++ // used already, or too many at a time; none may wait in vain
			default:
				results[err.Error()]++
			}
		})
	}
	wg.Wait()
	if diff := cmp.Diff(map[string]int{"admitted": 1, "refused": 99}, results); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Through the command line, as a person would.
	w.ztm("root", "invite", "carol", "--permit", w.path("carol.json"))
	w.startAgent("carol")
	w.ztm("carol", "join", "demo", "--as", "ep-carol", "--permit", w.path("carol.json"))
	if diff := cmp.Diff("carol", w.endpoint("ep-carol").User); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.startAgent("thief")
	if _, errs, status := w.try("thief", "join", "demo", "--as", "ep-thief", "--permit", w.path("carol.json")); status != 1 || !strings.Contains(errs, "used already") {
		t.Errorf("second use: exit status %d, %s", status, errs)
	}
}

func redeemOnce(w *world, v *identity.Verifier, p *identity.Permit, name string) error {
	key, err := identity.NewKey()
	if err != nil {
		return err
	}
	public := key.Public().(ed25519.PublicKey)
	proof, err := p.Token.Prove(public, name)
	if err != nil {
		return err
	}
	cert, err := identity.SelfSigned(key, time.Now())
	if err != nil {
		return err
	}
	config := v.ClientConfig(cert, identity.RoleHub, "", identity.JoinProto)
	// A busy machine may be too slow for a handshake. What is looked at is the answer to the token.
	ctx, cancel := context.WithTimeout(context.Background(), appstest.Timeout)
	defer cancel()
	j, err := tunnel.DialJoin(ctx, &tunnel.Dialer{}, w.address, config)
	for err != nil && ctx.Err() == nil {
		j, err = tunnel.DialJoin(ctx, &tunnel.Dialer{}, w.address, config)
	}
	if err != nil {
		return err
	}
	_, err = j.Ask(ctx, tunnel.JoinRequest{Key: public, Name: name, Proof: proof})
	return err
}

func TestATakenNameDoesNotSpendTheToken(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "bob", "--permit", w.path("bob.json"))
	w.startAgent("bob")
	if _, errs, status := w.try("bob", "join", "demo", "--as", "ep-root", "--permit", w.path("bob.json")); status != 1 || !strings.Contains(errs, "taken") {
		t.Errorf("exit status %d, %s", status, errs)
	}
	w.ztm("bob", "join", "demo", "--as", "ep-bob", "--permit", w.path("bob.json"))
}

func TestAnEvictionVoidsATokenThatWasNotUsedYet(t *testing.T) {
	w := newWorld(t)
	w.join("root", "root")
	w.ztm("root", "invite", "eve", "--permit", w.path("eve.json"))
	w.ztm("root", "evict", "eve")
	w.startAgent("eve")
	if _, errs, status := w.try("eve", "join", "demo", "--as", "ep-eve", "--permit", w.path("eve.json")); status != 1 || !strings.Contains(errs, "evicted") {
		t.Errorf("exit status %d, %s", status, errs)
	}
}

// A certificate that is in the last third of its life is renewed over the mesh, by an endpoint that
// holds the CA key.
func TestACertificateIsRenewedOverTheMesh(t *testing.T) {
	w := emptyWorld(t)
	then := time.Now().Add(-300 * 24 * time.Hour)
	ca := identitytest.New(t, then).CA
	p := &identity.Permit{Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), CAKey: string(ca.KeyPEM()), Bootstraps: []string{w.address}}
	root, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.write("root.json", string(root)) // the hub takes a root permit that is there
	w.startHub(hub.Config{})
	w.join("root", "root")
	stop := w.startAgent("old")
	key, err := identity.ParsePublicKey([]byte(w.ztm("old", "identity")))
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignMember(key, "bob", then, then)
	if err != nil {
		t.Fatal(err)
	}
	p.CAKey = ""
	p.Agent = &identity.PermitAgent{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	permit, err := p.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	w.write("old.json", string(permit))
	w.ztm("old", "join", "demo", "--as", "ep-old", "--permit", w.path("old.json"))
	life := func() time.Duration {
		var m api.Mesh
		if err := json.Unmarshal([]byte(w.ztm("old", "get", "mesh", "demo", "-o", "json")), &[]*api.Mesh{&m}); err != nil {
			t.Fatal(err)
		}
		return time.Until(m.Agent.NotAfter)
	}
	w.until("the certificate is a new one", func() error {
		if d := life(); d < 300*24*time.Hour {
			return fmt.Errorf("it lives for %v", d)
		}
		return nil
	})
	stop() // and it is the one on disk
	w.startAgent("old")
	w.connected("old")
	if d := life(); d < 300*24*time.Hour {
		t.Errorf("after a restart it lives for %v", d)
	}
}
