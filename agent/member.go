package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"

	"ztm/agent/api"
	"ztm/agent/authority"
	"ztm/agent/control"
	"ztm/agent/policy/keep"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/race"
	"ztm/tunnel/unixtime"
)

// admit checks a permit and makes the membership it stands for. Nothing is kept.
func (a *Agent) admit(ctx context.Context, mesh string, in api.Join) (row authority.Row, err error) {
	for _, n := range []string{mesh, in.Name} {
		if err := identity.CheckName(n); err != nil {
			return row, answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	p, err := identity.ParsePermit(in.Permit)
	if err != nil {
		return row, answer.Errorf(answer.BadRequest, "%v", err)
	}
	if err := a.checkNew(mesh, p); err != nil {
		return row, err
	}
	if err := keep.CheckPermit(p); err != nil {
		return row, err
	}
	row = authority.Row{CA: p.CA, CAKey: p.CAKey, Trust: p.Trust, Policy: p.Policy, Name: in.Name, Hubs: p.Bootstraps}
	public := a.key.Public().(ed25519.PublicKey)
	switch {
	case p.CAKey != "":
		row.Certificate, err = signRoot(p, public, a.clock.Now())
	case p.Agent != nil:
		if _, err = p.CheckCertificate(public, a.clock.Now()); err == nil {
			row.Certificate, err = certificateDER(p.Agent.Certificate)
		}
	case p.Token != nil:
		row.Ephemeral = p.Token.Ephemeral()
		row.Certificate, err = a.redeemToken(ctx, p, in)
	case p.Hub != nil:
		err = errors.New("the permit is for another hub of the mesh, not for an endpoint: give it to ztm run hub --permit FILE")
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

// checkNew refuses a mesh that this agent is in already, unless the permit brings something: a way
// back for an endpoint that the mesh does not let in any longer, or the CA key.
func (a *Agent) checkNew(name string, p *identity.Permit) error {
	for _, m := range a.all() {
		same := m.verifier.Trust().Mesh() == p.Mesh
		if !same && m.name != name {
			continue
		}
		_, err := m.authority.Signer()
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

// inherit gives the row with which an endpoint joins again what it had: its labels, and the newest
// trust list that it has seen.
func (m *mesh) inherit(row authority.Row) (authority.Row, error) {
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
	if user := m.authority.User(); s.User != user {
		return row, answer.Errorf(answer.Conflict, "this endpoint belongs to user %s and the permit is for user %s: leave the mesh first", user, s.User)
	}
	row.Trust, row.Labels = trust.Document(), m.Membership().Labels
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
func (a *Agent) redeemToken(ctx context.Context, p *identity.Permit, in api.Join) ([]byte, error) {
	public := a.key.Public().(ed25519.PublicKey)
	if p.Token.Expires().Before(a.clock.Now()) {
		return nil, fmt.Errorf("the join token expired at %s", unixtime.Text(p.Token.Expires()))
	}
	proof, err := p.Token.Prove(public, in.Name)
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
	der, err := a.askMembership(ctx, p.Bootstraps, config, tunnel.JoinRequest{Key: public, Name: in.Name, Proof: proof, Replace: in.Replace})
	if err != nil {
		return nil, err
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

// askMembership asks the hub that answers first, and where that one cannot say now, the others.
func (a *Agent) askMembership(ctx context.Context, addresses []string, config *tls.Config, req tunnel.JoinRequest) ([]byte, error) {
	var errs, refusals []error
	var refused []string
	for left := slices.Clone(addresses); len(left) > 0; {
		j, i, failed := race.First(ctx, len(left), control.RaceDelay, func(ctx context.Context, i int) (io.Closer, error) {
			j, err := tunnel.DialJoin(ctx, a.dialer, left[i], config)
			if err != nil {
				err = control.HubError(left[i], err)
			}
			return j, err
		})
		if i < 0 {
			errs = append(errs, failed...)
			break
		}
		der, err := j.(*tunnel.Joining).Ask(ctx, req)
		var r *answer.Error
		if err == nil || errors.As(err, &r) && r.Code != answer.Unavailable && r.Code != answer.Broken {
			return der, answer.Lost(err)
		}
		refused, refusals = append(refused, left[i]), append(refusals, err)
		left = slices.Delete(left, i, i+1)
	}
	return nil, answer.Errorf(answer.Unavailable, "%v", answer.Join(append(errs, control.HubErrors(refused, refusals)...)...))
}

// registration is what registers a membership that is not kept yet: a certificate and a record.
func (a *Agent) registration(name string, row authority.Row) (*control.Control, error) {
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
	cert, subject, err := authority.CertificateOf(v, a.key, row.Certificate)
	if err != nil {
		return nil, err
	}
	v.SetOwn(subject)
	return control.New(control.Config{
		Mesh: name, Self: a.self, Dialer: a.dialer, Verifier: v, Certificate: func() tls.Certificate { return cert }, Hubs: func() []string { return row.Hubs },
		Record: func(at unixtime.Millis, offers []string) ([]byte, error) {
			return a.signRecord(row, signer, at, offers)
		},
	}), nil
}

// introduce registers with a hub, so that a name that is taken or a certificate that is refused
// shows now. It returns the endpoint of the same user that had the name until then; "" if none had.
func (a *Agent) introduce(ctx context.Context, c *control.Control, row authority.Row, replace bool) (replaced identity.ID, err error) {
	err = c.Visit(ctx, func(s *tunnel.Session) error {
		var page tunnel.Page
		if err := s.Call(ctx, http.MethodGet, tunnel.PathEndpoints, url.Values{"name": {row.Name}}, nil, &page); err != nil {
			return err
		}
		for _, e := range page.Entries {
			if r, _, err := c.Verifier.InspectRecord(e.Record); err == nil && r.Name == row.Name && r.ID != a.self {
				replaced = r.ID
			}
		}
		if !replace || replaced == "" {
			return nil
		}
		doc, err := a.signRecord(row, false, unixtime.MillisOf(a.clock.Now()), nil)
		if err != nil {
			return err
		}
		return s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(a.self), url.Values{"replace": {"true"}}, doc, nil)
	})
	if err == nil {
		err = c.Register(ctx)
	}
	if err != nil && !errors.As(err, new(*answer.Error)) {
		err = answer.Errorf(answer.Unavailable, "%v", err)
	}
	return replaced, err
}

// setLabels replaces the labels of this endpoint.
func (m *mesh) setLabels(labels []string) error {
	labels = slices.Compact(slices.Sorted(slices.Values(labels)))
	for _, l := range labels {
		if err := identity.CheckLabel(l); err != nil && !slices.Contains(m.Self().Labels, l) { // what is there may be older
			return answer.Errorf(answer.BadRequest, "%v", err)
		}
	}
	row := m.Membership()
	trial := identity.Record{ID: m.agent.self, Name: row.Name, Labels: labels, Certificate: row.Certificate}
	if _, err := identity.SignRecord(trial, m.agent.key); err != nil {
		return answer.Errorf(answer.BadRequest, "%v", err)
	}
	if err := m.Save(func(r *authority.Row) { r.Labels = labels }); err != nil {
		return err
	}
	m.control.Publish()
	return nil
}
