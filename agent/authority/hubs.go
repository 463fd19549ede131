package authority

import (
	"crypto/ed25519"
	"encoding/pem"

	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
)

// InviteHub makes a permit with which another hub of the mesh starts, for the key that the hub has
// made. names are the host:port under which agents are to reach it; the hub may name others. It
// needs the CA key and no hub.
func (a *Authority) InviteHub(key ed25519.PublicKey, names []string) (*identity.Permit, error) {
	ca, err := a.Signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "only an endpoint of user %s can invite: %v", RootUser, err)
	}
	trust, now := a.Verifier.Trust(), a.Verifier.Clock().Now()
	der, err := ca.AdmitHub(key, trust.Admission("", now, identity.IDOf(key)), now)
	if err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	return &identity.Permit{
		Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), Bootstraps: a.Control.Bootstraps(), Trust: trust.Document(),
		Hub: &identity.PermitHub{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), Names: names},
	}, nil
}
