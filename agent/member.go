package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"ztm/agent/api"
	"ztm/agent/control"
	"ztm/apps"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// admit checks a permit and makes the membership it stands for. Nothing is kept.
func (a *Agent) admit(ctx context.Context, mesh, endpoint string, permit []byte) (row meshRow, err error) {
	for _, n := range []string{mesh, endpoint} {
		if err := identity.CheckName(n); err != nil {
			return row, answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	p, err := identity.ParsePermit(permit)
	if err != nil {
		return row, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if err := a.checkNew(mesh, p); err != nil {
		return row, err
	}
	row = meshRow{CA: p.CA, CAKey: p.CAKey, Trust: p.Trust, Name: endpoint, Hubs: p.Bootstraps}
	public := a.key.Public().(ed25519.PublicKey)
	switch {
	case p.CAKey != "":
		row.Certificate, err = signRoot(p, public, a.clock.Now())
	case p.Agent != nil:
		if _, err = p.CheckCertificate(public, a.clock.Now()); err == nil {
			row.Certificate, err = certificateDER(p.Agent.Certificate)
		}
	case p.Token != nil:
		row.Certificate, err = a.redeemToken(ctx, p, endpoint)
	default:
		err = errors.New("the permit holds neither a certificate nor a token")
	}
	if err != nil {
		var e *answer.Error
		if !errors.As(err, &e) {
			err = answer.Errorf(answer.BadRequest, "%v", err)
		}
		return row, err
	}
	return row, nil
}

// checkNew refuses a mesh that this agent is in already, unless the permit brings something: a way back for an endpoint that the mesh
// does not let in any more, or the CA key.
func (a *Agent) checkNew(name string, p *identity.Permit) error {
	for _, m := range a.all() {
		same := m.verifier.Trust().Mesh() == p.Mesh
		if !same && m.name != name {
			continue
		}
		_, err := m.signer()
		if same && m.name == name && (p.CAKey != "" && err != nil || m.describe().Status != api.Connected) {
			return nil
		}
		if m.name == name {
			return answer.Errorf(answer.Conflict, "this agent has joined mesh %q already", name)
		}
		return answer.Errorf(answer.Conflict, "this agent has joined that mesh already, as mesh %q", m.name)
	}
	return nil
}

// inherit gives the row with which an endpoint joins again what it had: its labels, and the newest trust list that it has seen.
func (m *mesh) inherit(row meshRow) (meshRow, error) {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return row, err
	}
	next, err := trust.Update(m.verifier.Trust().Document())
	if err == nil {
		trust = next
	} else if !errors.Is(err, identity.ErrRollback) {
		return row, answer.Errorf(answer.BadRequest, "permit: %v", err)
	}
	if row.CAKey != "" {
		if ca, err := identity.ParseCA([]byte(row.CA), []byte(row.CAKey)); err != nil || ca.ID() != trust.Newest() {
			return row, answer.Errorf(answer.BadRequest, "this root permit is an old one: the mesh's CA was replaced")
		}
	}
	s, err := identity.NewVerifier(trust, m.agent.clock).Inspect(row.Certificate, identity.RoleMember)
	if err != nil {
		return row, err
	}
	if user := m.user(); s.User != user {
		return row, answer.Errorf(answer.Conflict, "this endpoint belongs to user %s and the permit is for user %s: leave the mesh first", user, s.User)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	row.Trust, row.Labels = trust.Document(), m.row.Labels
	return row, nil
}

func certificateDER(text string) ([]byte, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("the permit's certificate is not PEM")
	}
	return block.Bytes, nil
}

// signRoot makes the certificate of an endpoint that joins with the root permit.
func signRoot(p *identity.Permit, key ed25519.PublicKey, now time.Time) ([]byte, error) {
	ca, err := identity.ParseCA([]byte(p.CA), []byte(p.CAKey))
	if err != nil {
		return nil, err
	}
	trust, err := identity.ParseTrust([]byte(p.CA), p.Trust)
	if err != nil {
		return nil, err
	}
	return ca.SignMember(key, rootUser, trust.Admission(rootUser, now), now)
}

// redeemToken has a holder of the CA key make a certificate, through the hub, for a one-time token.
func (a *Agent) redeemToken(ctx context.Context, p *identity.Permit, endpoint string) ([]byte, error) {
	public := a.key.Public().(ed25519.PublicKey)
	if p.Token.Expires().Before(a.clock.Now()) {
		return nil, fmt.Errorf("the join token expired at %s", p.Token.Expires().UTC().Format(time.RFC3339))
	}
	proof, err := p.Token.Prove(public, endpoint)
	if err != nil {
		return nil, err
	}
	trust, err := identity.ParseTrust([]byte(p.CA), p.Trust)
	if err != nil {
		return nil, err
	}
	v := identity.NewVerifier(trust, a.clock)
	a.clock.Hint(trust.Issued(), p.Token.Expires()) // it has no certificate yet that could limit this
	cert, err := identity.SelfSigned(a.key, a.clock.Now())
	if err != nil {
		return nil, err
	}
	config := v.ClientConfig(cert, identity.RoleHub, "", identity.JoinProto)
	var errs []error
	for _, address := range p.Bootstraps {
		der, err := tunnel.Join(ctx, a.dialer, address, config, tunnel.JoinRequest{Key: public, Name: endpoint, Proof: proof})
		var r *answer.Error
		if errors.As(err, &r) {
			return nil, answer.Lost(err)
		}
		if err != nil {
			errs = append(errs, control.HubError(address, err))
			continue
		}
		s, err := v.Certificate(der, identity.RoleMember)
		if err != nil {
			return nil, err
		}
		if s.ID != a.self || s.User != p.Token.User() {
			return nil, fmt.Errorf("the certificate is for endpoint %s of user %s", s.ID, s.User)
		}
		return der, nil
	}
	return nil, answer.Errorf(answer.Unavailable, "%v", errors.Join(errs...))
}

// registration is what registers a membership that is not kept yet: a certificate and a record.
func (a *Agent) registration(name string, row meshRow) (*control.Control, error) {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return nil, err
	}
	signer := false
	if row.CAKey != "" {
		ca, err := identity.ParseCA([]byte(row.CA), []byte(row.CAKey))
		if err != nil {
			return nil, err
		}
		signer = ca.ID() == trust.Newest()
	}
	v := identity.NewVerifier(trust, a.clock)
	cert, subject, err := a.certificate(v, row.Certificate)
	if err != nil {
		return nil, err
	}
	v.SetOwn(subject)
	return control.New(control.Config{
		Mesh: name, Self: a.self, Dialer: a.dialer, Verifier: v, Certificate: func() tls.Certificate { return cert }, Hubs: func() []string { return row.Hubs },
		Record: func(ms int64, offers []string) ([]byte, error) { return a.signRecord(row, signer, ms, offers) },
	}), nil
}

// certificate makes a certificate of this device's key ready for use. It need not be valid now: a clock may be wrong, and the hub is the one
// to say so.
func (a *Agent) certificate(v *identity.Verifier, der []byte) (tls.Certificate, identity.Subject, error) {
	subject, err := v.Inspect(der, identity.RoleMember)
	if err == nil && subject.ID != a.self {
		err = fmt.Errorf("the certificate is for endpoint %s, this device is %s", subject.ID, a.self)
	}
	return identity.TLSCertificate(der, a.key), subject, err
}

// introduce registers with a hub, so that a name that is taken or a certificate that is refused shows now.
func introduce(ctx context.Context, c *control.Control) error {
	s, _, err := c.Dial(ctx)
	if err != nil {
		return answer.Errorf(answer.Unavailable, "%v", err)
	}
	defer s.Close()
	return answer.Lost(c.Register(ctx, s))
}

// withdraw takes this endpoint out of the hub's directory.
func withdraw(ctx context.Context, c *control.Control) error {
	s, _, err := c.Dial(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Call(ctx, http.MethodDelete, tunnel.PathEndpoints+"/"+string(c.Self), nil, nil, nil)
}

// Token lifetimes.
const (
	defaultTokenLife = 24 * time.Hour
	maxTokenLife     = 30 * 24 * time.Hour
)

// invite makes a permit for a user: for a key, or with a one-time token where key is nil. It needs the CA key and no hub.
func (m *mesh) invite(user string, key ed25519.PublicKey, life time.Duration) (*identity.Permit, error) {
	ca, err := m.signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "only an endpoint of user %s can invite: %v", rootUser, err)
	}
	if err := identity.CheckName(user); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	trust, now := m.verifier.Trust(), m.agent.clock.Now()
	p := &identity.Permit{Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), Bootstraps: m.control.Addresses(), Trust: trust.Document()}
	admitted := trust.Admission(user, now)
	if err := noteInvited(m.agent.db, m.name, user, admitted); err != nil {
		return nil, err
	}
	if key == nil {
		if life == 0 {
			life = defaultTokenLife
		}
		if life < time.Minute || life > maxTokenLife {
			return nil, answer.Errorf(answer.BadRequest, "a token lives between 1 minute and %d days", maxTokenLife/(24*time.Hour))
		}
		token, err := ca.NewToken(user, m.agent.self, admitted, now.Add(life))
		if err != nil {
			return nil, err
		}
		p.Token = &token
		return p, nil
	}
	der, err := ca.SignMember(key, user, admitted, now)
	if err != nil {
		return nil, err
	}
	p.Agent = &identity.PermitAgent{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	return p, nil
}

// answerSign does what a hub asks of a holder of the CA key.
func (m *mesh) answerSign(s *tunnel.Session, hub identity.Subject, e tunnel.Event) {
	if e.Sign == nil {
		return
	}
	var reply tunnel.SignAnswer
	der, err := m.sign(hub, e.Sign)
	if err != nil {
		m.peerLog.Info("sign", "a request for a certificate was refused", "err", err)
		if identity.Explains(err) {
			err = answer.Errorf(answer.Denied, "%v", err)
		}
		reply.Refusal = answer.Public(err)
	}
	reply.Certificate = der
	if err := s.Call(m.life, http.MethodPost, tunnel.PathSign+"/"+url.PathEscape(e.Request), nil, reply, nil); err != nil {
		m.log.Warn("the hub refused a certificate", "err", err)
	}
}

func (m *mesh) sign(hub identity.Subject, r *tunnel.SignRequest) ([]byte, error) {
	ca, err := m.signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "%v", err)
	}
	now := m.agent.clock.Now()
	if r.Join == nil {
		// For the very hub at the other end, and not before it is due: a hub that is taken over gets no supply of them.
		if !r.Hub || !mayRenew(hub, ca, now) {
			return nil, answer.Errorf(answer.Denied, "the hub's certificate is not due for renewal")
		}
		return ca.SignHub(hub.Key, now)
	}
	key := ed25519.PublicKey(r.Join.Key)
	inv, err := ca.CheckProof(r.Join.Proof, key, r.Join.Name, m.agent.self, now)
	if err != nil {
		return nil, err
	}
	der, err := ca.SignMember(key, inv.User, inv.Admitted, now)
	if err != nil {
		return nil, err
	}
	if _, err := m.verifier.Certificate(der, identity.RoleMember); err != nil {
		return nil, err // evicted since the token was made
	}
	if err := m.mayHaveName(r, identity.IDOf(key), inv.User); err != nil {
		return nil, err // the token is not spent
	}
	if err := redeem(m.agent.db, inv.Nonce, identity.IDOf(key), inv.Expires, now); err != nil {
		return nil, err
	}
	m.log.Info("admitted a device with a join token", "user", inv.User, "endpoint", r.Join.Name, "id", identity.IDOf(key))
	return der, nil
}

// mayHaveName reports whether a joining device may have its name. A hub that asks for the CA key says what it knows of it.
func (m *mesh) mayHaveName(r *tunnel.SignRequest, id identity.ID, user string) error {
	if r.Name != nil {
		return r.Name.Check(r.Join.Name, user)
	}
	return m.nameIsFree(r.Join.Name, id)
}

// nameIsFree asks the directory. The hub has the last word when the endpoint registers.
func (m *mesh) nameIsFree(name string, id identity.ID) error {
	ctx, cancel := context.WithTimeout(m.life, tunnel.ProbeTimeout)
	defer cancel()
	holders, err := m.Endpoints(ctx, apps.Filter{Name: name})
	if err != nil {
		return err
	}
	for _, h := range holders {
		if h.ID != id {
			return answer.Errorf(answer.Conflict, "endpoint name %s is taken by an endpoint of user %s", name, h.User)
		}
	}
	return nil
}

// setLabels replaces the labels of this endpoint.
func (m *mesh) setLabels(labels []string) error {
	labels = slices.Compact(slices.Sorted(slices.Values(labels)))
	for _, l := range labels {
		if err := identity.CheckLabel(l); err != nil && !slices.Contains(m.Self().Labels, l) { // what is there may be older
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	m.mu.Lock()
	trial := identity.Record{ID: m.agent.self, Name: m.row.Name, Labels: labels, Certificate: m.row.Certificate}
	m.mu.Unlock()
	if _, err := identity.SignRecord(trial, m.agent.key); err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	if err := m.save(func(r *meshRow) { r.Labels = labels }); err != nil {
		return err
	}
	m.control.Publish()
	return nil
}
