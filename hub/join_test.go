package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/limit"
)

// token makes a join token of the hub's mesh.
func (h *testHub) token(user string, redeemer identity.ID) identity.Token {
	h.t.Helper()
	token, err := h.ca.NewToken(user, redeemer, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// join asks for membership with a token and, if it gets a certificate, becomes a member.
func (d *device) join(name string, token identity.Token) error {
	proof, err := token.Prove(publicKey(d.key), name)
	if err != nil {
		return err
	}
	return d.joinWith(tunnel.JoinRequest{Key: publicKey(d.key), Name: name, Proof: proof})
}

func (d *device) joinWith(req tunnel.JoinRequest) error {
	cert, err := identity.SelfSigned(d.key, time.Now())
	if err != nil {
		return err
	}
	config := d.verifier.ClientConfig(cert, identity.RoleHub, d.hub.started.ID, identity.JoinProto)
	der, err := tunnel.Join(context.Background(), &tunnel.Dialer{}, d.hub.address(), config, req)
	if err != nil {
		return err
	}
	s, err := d.verifier.Inspect(der, identity.RoleMember)
	if err != nil {
		return err
	}
	if s.ID != d.id || s.User != d.user {
		return fmt.Errorf("the certificate is for %s of %s", s.ID, s.User)
	}
	d.cert = identity.TLSCertificate(der, d.key)
	return nil
}

// sign makes an endpoint answer requests for the CA key, until its events end.
func (o *online) sign(answer func(tunnel.SignRequest) tunnel.SignAnswer) {
	var wg sync.WaitGroup
	o.hub.t.Cleanup(func() { o.Session.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			select {
			case e := <-o.events:
				if e.Type == tunnel.EventSign {
					o.Call(context.Background(), "POST", tunnel.PathSign+"/"+e.Request, nil, answer(*e.Sign), nil)
				}
			case <-o.ended:
				return
			}
		}
	})
}

// signer answers as a holder of the CA key does.
func (h *testHub) signer(self identity.ID) func(tunnel.SignRequest) tunnel.SignAnswer {
	return func(r tunnel.SignRequest) tunnel.SignAnswer {
		refuse := func(err error) tunnel.SignAnswer {
			return tunnel.SignAnswer{Refusal: answer.Errorf(answer.Denied, "%v", err)}
		}
		invited, err := h.ca.CheckProof(r.Join.Proof, r.Join.Key, r.Join.Name, self, time.Now())
		if err != nil {
			return refuse(err)
		}
		der, err := h.ca.SignMember(r.Join.Key, invited.User, invited.Admitted, time.Now())
		if err != nil {
			return refuse(err)
		}
		return tunnel.SignAnswer{Certificate: der}
	}
}

func TestADeviceJoinsByATokenOfARootEndpoint(t *testing.T) {
	h := start(t)
	root := h.device("root").online("root-ep")
	root.sign(h.signer(root.id))
	bob := h.unjoined("bob")
	if err := bob.join("laptop", h.token("bob", root.id)); err != nil {
		t.Fatal(err)
	}
	if err := bob.put(bob.session(), bob.record("laptop")); err != nil {
		t.Errorf("the new certificate is not good: %v", err)
	}
}

func TestATokenIsRefusedInWords(t *testing.T) {
	h := start(t)
	other := start(t)
	root := h.device("root").online("root-ep")
	root.sign(h.signer(root.id))
	member := h.device("mallory").online("mallory-ep")
	gone := h.device("root")
	if err := gone.put(gone.session(), gone.record("gone")); err != nil {
		t.Fatal(err)
	}
	bob := h.unjoined("bob")
	prove := func(token identity.Token) identity.Proof {
		p, err := token.Prove(publicKey(bob.key), "laptop")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	forged := prove(h.token("bob", root.id))
	forged.MAC = make([]byte, len(forged.MAC))
	stolen := h.unjoined("eve")
	cases := []struct {
		name   string
		req    tunnel.JoinRequest
		status int
		part   string
	}{
		{"issuer offline", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop", Proof: prove(h.token("bob", gone.id))},
			503, "the endpoint that redeems this token (gone) is offline"},
		{"issuer unknown", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop", Proof: prove(h.token("bob", bob.id))},
			503, "not in the mesh"},
		{"issuer is not root", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop", Proof: prove(h.token("bob", member.id))},
			403, "cannot sign"},
		{"hub that keeps no CA", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop", Proof: prove(h.token("bob", h.started.ID))},
			403, "does not hold the CA key"},
		{"forged", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop", Proof: forged}, 403, "not valid for this device"},
		{"another name", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "desktop", Proof: prove(h.token("bob", root.id))},
			403, "not valid for this device"},
		{"another key", tunnel.JoinRequest{Key: publicKey(stolen.key), Name: "laptop", Proof: prove(h.token("bob", root.id))},
			403, "another key"},
		{"another mesh", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop", Proof: prove(other.token("bob", root.id))},
			403, "join token is for mesh"},
		{"no name", tunnel.JoinRequest{Key: publicKey(bob.key), Proof: prove(h.token("bob", root.id))}, 400, "name"},
		{"no proof", tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop"}, 400, "token"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := bob.joinWith(c.req)
			var r *answer.Error
			if !errors.As(err, &r) || r.Status() != c.status || !strings.Contains(r.Message, c.part) {
				t.Errorf("got %v, want status %d and a message with %q", err, c.status, c.part)
			}
		})
	}
}

func TestOnlyTheEndpointThatWasAskedMaySign(t *testing.T) {
	h := start(t)
	root := h.device("root").online("root-ep")
	second := h.device("root").online("second-root")
	eve := h.device("eve").online("eve-ep")
	bob := h.unjoined("bob")
	joined := make(chan error, 1)
	token := h.token("bob", root.id)
	go func() { joined <- bob.join("laptop", token) }()
	e := root.next(tunnel.EventSign)
	path := tunnel.PathSign + "/" + e.Request
	answer := h.signer(root.id)(*e.Sign)
	wantRefusal(t, eve.Call(t.Context(), "POST", path, nil, answer, nil), 403, "only endpoints of user root")
	wantRefusal(t, second.Call(t.Context(), "POST", path, nil, answer, nil), 404, "no request waits")
	wantRefusal(t, root.Call(t.Context(), "POST", tunnel.PathSign+"/other", nil, answer, nil), 404, "no request waits")
	wantRefusal(t, root.Call(t.Context(), "POST", path, nil, tunnel.SignAnswer{}, nil), 400, "either a certificate or a refusal")
	if err := root.Call(t.Context(), "POST", path, nil, answer, nil); err != nil {
		t.Fatal(err)
	}
	if err := <-joined; err != nil {
		t.Error(err)
	}
	wantRefusal(t, root.Call(t.Context(), "POST", path, nil, answer, nil), 404, "no request waits")
}

func TestAJoiningDeviceHearsThatItsIssuerWentOffline(t *testing.T) {
	h := start(t)
	root := h.device("root").online("root-ep")
	joined := make(chan error, 1)
	bob, token := h.unjoined("bob"), h.token("bob", root.id)
	go func() { joined <- bob.join("laptop", token) }()
	root.next(tunnel.EventSign)
	root.Session.Close()
	wantRefusal(t, <-joined, 503, "went offline")
}

func keepCA(c *Config) { c.KeepCA = true }

func TestAHubThatKeepsTheCARedeemsATokenOnce(t *testing.T) {
	dir := t.TempDir()
	h := startIn(t, dir, keepCA)
	token := h.token("bob", h.started.ID)
	const many = 30
	devices := make([]*device, many)
	errs := make([]error, many)
	var wg sync.WaitGroup
	for i := range many {
		devices[i] = h.unjoined("bob")
		wg.Go(func() { errs[i] = devices[i].join(fmt.Sprint("laptop-", i), token) })
	}
	wg.Wait()
	var winner *device
	for i, err := range errs {
		var r *answer.Error
		switch {
		case err == nil && winner != nil:
			t.Fatal("the token was good twice")
		case err == nil:
			winner = devices[i]
		case !errors.As(err, &r) || r.Status() != 403 || !strings.Contains(r.Message, "used already"):
			t.Errorf("got %v", err)
		}
	}
	if winner == nil {
		t.Fatal("the token was never good")
	}
	// An answer that was lost on its way is not the device's fault.
	if err := winner.join("laptop", token); err != nil {
		t.Errorf("the same device asks again: %v", err)
	}
	if err := winner.put(winner.session(), winner.record("laptop")); err != nil {
		t.Error(err)
	}
	h.stop()
	h = startIn(t, dir, keepCA)
	late := h.unjoined("bob")
	wantRefusal(t, late.join("late", token), 403, "used already")
}

func TestAHubThatKeepsTheCAChecksBeforeItSpendsAToken(t *testing.T) {
	h := start(t, keepCA)
	alice := h.device("alice").online("taken")
	token := h.token("bob", h.started.ID)
	bob := h.unjoined("bob")
	wantRefusal(t, bob.join("taken", token), 409, "endpoint name taken is taken")
	if err := bob.join("free", token); err != nil {
		t.Fatalf("the token was spent on a refusal: %v", err)
	}

	old := h.token("carol", h.started.ID)
	h.evict(alice, "carol")
	wantRefusal(t, h.unjoined("carol").join("carol-ep", old), 403, "user carol was evicted")
}

func TestJoinsAreLimitedForEachAddress(t *testing.T) {
	h := start(t, keepCA, func(c *Config) { c.joinRate = limit.Rate{Burst: 2} })
	bob := h.unjoined("bob")
	nothing := tunnel.JoinRequest{Key: publicKey(bob.key), Name: "laptop"}
	for range 2 {
		wantRefusal(t, bob.joinWith(nothing), 400, "token")
	}
	wantRefusal(t, bob.joinWith(nothing), 429, "too many devices join from this address")
}
