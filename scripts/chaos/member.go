//go:build linux

package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"time"

	"ztm/tunnel"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// member is an endpoint of the mesh without an agent.
type member struct {
	key      ed25519.PrivateKey
	id       identity.ID
	cert     tls.Certificate
	verifier *identity.Verifier
}

// permit makes a permit with the certificate of a user for a key.
func (r *rig) permit(user string, key ed25519.PublicKey) ([]byte, error) {
	now := time.Now()
	der, err := r.ca.SignMember(key, user, now, now)
	if err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	p := identity.Permit{Version: 1, Mesh: r.ca.Mesh(), CA: string(r.caPEM), Bootstraps: r.hubAddresses(), Agent: &identity.PermitAgent{Certificate: string(text)}}
	return p.Marshal()
}

// newMember makes a key, and a certificate of a user.
func (r *rig) newMember(user string) (*member, error) {
	key, err := identity.NewKey()
	if err != nil {
		return nil, err
	}
	trust, err := identity.NewTrust(r.caPEM)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	public := key.Public().(ed25519.PublicKey)
	der, err := r.ca.SignMember(public, user, now, now)
	if err != nil {
		return nil, err
	}
	return &member{key, identity.IDOf(public), identity.TLSCertificate(der, key), identity.NewVerifier(trust, identity.NewClock())}, nil
}

// control opens a control session with a hub.
func (m *member) control(ctx context.Context, address string) (*tunnel.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return tunnel.Open(ctx, &tunnel.Dialer{}, address, m.verifier.ClientConfig(m.cert, identity.RoleHub, "", tunnel.ControlProto))
}

// register puts a record with a name.
func (m *member) register(ctx context.Context, s *tunnel.Session, name string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	doc, err := identity.SignRecord(identity.Record{ID: m.id, Name: name, Version: "chaos", Time: unixtime.MillisOf(time.Now()), Certificate: m.cert.Certificate[0]}, m.key)
	if err != nil {
		return err
	}
	return s.Call(ctx, http.MethodPut, tunnel.PathEndpoints+"/"+string(m.id), nil, doc, nil)
}

// redeem asks for membership by a token, as a device that has a key of its own. It returns the key's ID.
func (r *rig) redeem(ctx context.Context, address string, token identity.Token, name string) (identity.ID, error) {
	key, err := identity.NewKey()
	if err != nil {
		return "", err
	}
	cert, err := identity.SelfSigned(key, time.Now())
	if err != nil {
		return "", err
	}
	trust, err := identity.NewTrust(r.caPEM)
	if err != nil {
		return "", err
	}
	public := key.Public().(ed25519.PublicKey)
	proof, err := token.Prove(public, name)
	if err != nil {
		return "", err
	}
	config := identity.NewVerifier(trust, identity.NewClock()).ClientConfig(cert, identity.RoleHub, "", identity.JoinProto)
	der, err := tunnel.Join(ctx, &tunnel.Dialer{}, address, config, tunnel.JoinRequest{Key: public, Name: name, Proof: proof})
	if err == nil && len(der) == 0 {
		err = fmt.Errorf("the certificate is empty")
	}
	return identity.IDOf(public), err
}
