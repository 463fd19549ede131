package authority

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/control"
	"ztm/tunnel"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/seal"
	"ztm/tunnel/unixtime"
)

// The life of a join token:
//
//	Invite      makes it: for whom, until when, for how many devices, and who redeems it: this endpoint, another of root, or
//	            a hub that keeps the CA key. Its redeemer alone decides, in its database, so it is redeemed as often as it says.
//	            Hubs that keep the CA key and share a store decide there: any of them redeems a token that names the mesh.
//	sign        redeems it here, see sign.go; with Approve a person decides first (approved, Answer)
//	Tokens      lists those made or redeemed here that are open
//	Revoke      ends one before its time

// Token lifetimes.
const (
	defaultTokenLife = 24 * time.Hour
	maxTokenLife     = 30 * 24 * time.Hour
	maxPodLife       = 400 * 24 * time.Hour // of a token for ephemeral endpoints, which lies in a Secret
	nonceBytes       = 16                   // of its ID
)

// Issued is a token that was made or redeemed here.
type Issued struct {
	identity.Invitation
	Used    int // by how many keys, at this redeemer
	Revoked bool
	Stale   bool // older than the backup from which this endpoint was restored: not redeemed here
}

// Asking is a device that waits for a person.
type Asking struct {
	ID             identity.ID
	Name, User     string
	Since, Expires time.Time
	Nod            Nod
}

// Nod is the answer of a person.
type Nod string

// The answers.
const (
	NoNod    Nod = ""
	Approved Nod = "approved"
	Refused  Nod = "denied"
)

// Invite makes a permit for a user: for a key, or with a token where key is nil. It needs the CA
// key, and no hub but to find another redeemer.
func (a *Authority) Invite(ctx context.Context, user string, key ed25519.PublicKey, in api.Invite) (*identity.Permit, error) {
	ca, err := a.Signer()
	if err != nil {
		return nil, answer.Errorf(answer.Denied, "only an endpoint of user %s can invite: %v", RootUser, err)
	}
	if err := identity.CheckName(user); err != nil {
		return nil, answer.Errorf(answer.BadRequest, "%v", err)
	}
	trust, now := a.Verifier.Trust(), a.Verifier.Clock().Now()
	life, err := a.life(user, now)
	if err != nil {
		return nil, err
	}
	p := &identity.Permit{Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), Bootstraps: a.Control.Bootstraps(), Trust: trust.Document(), Policy: a.Policy()}
	admitted := trust.Admission(user, now, invitedDevices(trust, user, key)...)
	if err := a.Book.NoteInvited(user, admitted); err != nil {
		return nil, err
	}
	if key == nil {
		token, err := a.issue(ctx, ca, identity.Invitation{User: user, Admitted: admitted}, in, now)
		p.Token = &token
		return p, err
	}
	der, err := ca.LimitMember(key, user, admitted, now, life)
	if err != nil {
		return nil, err
	}
	if err := a.Book.NoteAdmitted(identity.IDOf(key), user, admitted, now); err != nil {
		return nil, err
	}
	p.Agent = &identity.PermitAgent{Certificate: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	return p, nil
}

// issue makes a token.
func (a *Authority) issue(ctx context.Context, ca *identity.CA, inv identity.Invitation, in api.Invite, now time.Time) (identity.Token, error) {
	life, longest := time.Duration(in.Expires), maxTokenLife
	if in.Ephemeral {
		longest = maxPodLife
	}
	if life == 0 {
		life = defaultTokenLife
	}
	if life < time.Minute || life > longest {
		return identity.Token{}, answer.Errorf(answer.BadRequest, "a token lives between 1 minute and %d days", longest/(24*time.Hour))
	}
	if in.Uses < 0 || in.Uses > identity.MaxUses {
		return identity.Token{}, answer.Errorf(answer.BadRequest, "a token has between 1 and %d uses", identity.MaxUses)
	}
	redeemer, err := a.redeemer(ctx, in)
	if err != nil {
		return identity.Token{}, err
	}
	inv.Expires, inv.Uses, inv.Ephemeral, inv.Approve, inv.By, inv.Redeemer = now.Add(life), max(in.Uses, 1), in.Ephemeral, in.Approve, a.Self, redeemer
	token, err := ca.IssueToken(inv)
	if err != nil {
		return token, err
	}
	inv.Nonce = token.ID()
	return token, a.Book.NoteIssued(inv, now)
}

// redeemer returns who redeems a token: whom the caller names, else the attached hub if it keeps
// the CA key, or with it all that share its store, as a hub is online when a device joins, else this
// endpoint.
func (a *Authority) redeemer(ctx context.Context, in api.Invite) (identity.ID, error) {
	if in.Redeemer != "" && in.Redeemer != api.RedeemerHub {
		id := identity.ID(in.Redeemer)
		if id == a.Self {
			return id, nil
		}
		e, err := a.Directory.Find(ctx, id)
		if err != nil {
			return "", err
		}
		if e.User != RootUser {
			return "", answer.Errorf(answer.BadRequest, "endpoint %s is not one of user %s, and redeems no tokens", e.Name, RootUser)
		}
		return id, nil
	}
	if in.Redeemer == "" && in.Approve {
		return a.Self, nil
	}
	var status tunnel.HubStatus
	s, _ := a.Control.Now()
	if s != nil && s.Call(ctx, http.MethodGet, tunnel.PathHub, nil, nil, &status) == nil && status.KeepsCA {
		if in.Approve {
			return "", answer.Errorf(answer.BadRequest, "a hub asks nobody: a token with approval is redeemed by an endpoint of user %s", RootUser)
		}
		if status.Shared {
			return a.Verifier.Trust().Mesh(), nil
		}
		return status.ID, nil
	}
	if in.Redeemer == api.RedeemerHub {
		return "", answer.Errorf(answer.BadRequest, "the hub does not keep the CA key (--keep-ca), and redeems no tokens")
	}
	return a.Self, nil
}

// Tokens lists the tokens that were made or redeemed here and are open: they are good for one more
// device.
func (a *Authority) Tokens(ctx context.Context) ([]api.Token, error) {
	all, err := a.Book.Issued(a.Verifier.Clock().Now())
	out := []api.Token{}
	silent := map[identity.ID]bool{} // redeemers that did not answer are not asked again
	for _, i := range all {
		if a.Verifier.Trust().Voids(i.User, i.Admitted) || i.Stale && i.Redeemer == a.Self {
			continue
		}
		t := api.Token{ID: i.Nonce, User: i.User, Made: i.Admitted, Until: i.Expires, Uses: i.Uses, Left: i.Uses - i.Used,
			Ephemeral: i.Ephemeral, Approve: i.Approve, By: i.By, Redeemer: i.Redeemer}
		if t.Elsewhere = i.Redeemer != a.Self; t.Elsewhere && !silent[i.Redeemer] {
			if used, err := a.usedElsewhere(ctx, i); err == nil {
				t.Left, t.Elsewhere = i.Uses-used.Used, false
				i.Revoked = i.Revoked || used.Revoked
			} else {
				silent[i.Redeemer] = true
			}
		}
		if t.Left > 0 && !i.Revoked {
			out = append(out, t)
		}
	}
	return out, err
}

// usedElsewhere asks how often a token was used: a hub, or another endpoint of root.
func (a *Authority) usedElsewhere(ctx context.Context, i Issued) (used tunnel.TokenUse, err error) {
	if a.isHub(ctx, i.Redeemer) {
		return a.usedAtHub(ctx, i)
	}
	ctx, cancel := context.WithTimeout(ctx, tunnel.ProbeTimeout)
	defer cancel()
	resp, err := a.Peers.Ask(ctx, i.Redeemer, http.MethodGet, seal.PathAPI+"tokens/"+i.Nonce, nil)
	if err != nil {
		return used, err
	}
	defer resp.Body.Close()
	return used, json.NewDecoder(io.LimitReader(resp.Body, mostUse)).Decode(&used)
}

// mostUse is the most bytes of what another endpoint says of a token.
const mostUse = 1 << 10

// redeemers are the hubs that redeem a token: the one that it names, as another that keeps the CA key
// knows nothing of it, or those of them all that can.
func (a *Authority) redeemers(i Issued) []control.Hub {
	if i.Redeemer == a.Verifier.Trust().Mesh() {
		return a.hubsOfMesh()
	}
	h, _ := a.knownHub(i.Redeemer)
	return []control.Hub{h}
}

// redeemerOf says in a request who redeems a token: a hub that keeps the CA key and does not know of it
// says so.
func redeemerOf(i Issued) url.Values { return url.Values{"redeemer": {string(i.Redeemer)}} }

// usedAtHub asks a hub that redeems a token, if there is a session with it.
func (a *Authority) usedAtHub(ctx context.Context, i Issued) (used tunnel.TokenUse, err error) {
	err = answer.Errorf(answer.Unavailable, "there is no session with a hub that redeems the token")
	for _, h := range a.redeemers(i) {
		if h.Session == nil {
			continue
		}
		if err = h.Session.Call(ctx, http.MethodGet, tunnel.PathTokens+"/"+i.Nonce, redeemerOf(i), nil, &used); err == nil {
			break
		}
	}
	return used, err
}

// revokeAtHub voids a token at the hub that redeems it.
func (a *Authority) revokeAtHub(ctx context.Context, i Issued) error {
	revoke := func(s *tunnel.Session) error {
		body := tunnel.TokenUse{Expires: unixtime.Of(i.Expires)}
		return answer.Lost(s.Call(ctx, http.MethodDelete, tunnel.PathTokens+"/"+i.Nonce, redeemerOf(i), body, nil))
	}
	err := errNotReached
	for _, h := range a.redeemers(i) {
		if err = a.atHub(ctx, h, revoke); err == nil {
			return nil
		}
	}
	if errors.Is(err, errNotReached) {
		return answer.Errorf(answer.Unavailable, "%s, which redeems this token, cannot be reached: the token is not void yet", i.Redeemer)
	}
	return err
}

// revokeAtEndpoint voids a token at the endpoint of root that redeems it, which may not have heard of
// it yet.
func (a *Authority) revokeAtEndpoint(ctx context.Context, i Issued) error {
	path := seal.PathAPI + "tokens/" + i.Nonce + "?until=" + url.QueryEscape(i.Expires.UTC().Format(time.RFC3339))
	resp, err := a.Peers.Ask(ctx, i.Redeemer, http.MethodDelete, path, nil)
	if err != nil {
		return fmt.Errorf("%s, which redeems this token: the token is not void yet: %w", i.Redeemer, err)
	}
	resp.Body.Close()
	return nil
}

// knownHub returns the hub of an ID, if this endpoint knows it.
func (a *Authority) knownHub(id identity.ID) (control.Hub, bool) {
	for _, h := range a.Control.Known() {
		if h.ID == id {
			return h, true
		}
	}
	return control.Hub{}, false
}

// Revoke ends the token of an ID, or of the one ID that begins like that.
func (a *Authority) Revoke(ctx context.Context, id string) error {
	all, err := a.Book.Issued(a.Verifier.Clock().Now())
	if err != nil {
		return err
	}
	var found []Issued
	for _, i := range all {
		if id != "" && strings.HasPrefix(i.Nonce, id) {
			found = append(found, i)
		}
	}
	switch {
	case len(found) == 0:
		return answer.Errorf(answer.NotFound, "no token of ID %q was made or redeemed here", id)
	case len(found) > 1:
		return answer.Errorf(answer.Conflict, "the IDs of several tokens begin with %q", id)
	}
	i := found[0]
	switch {
	case i.Redeemer == a.Self:
	case a.isHub(ctx, i.Redeemer):
		err = a.revokeAtHub(ctx, i)
	default:
		err = a.revokeAtEndpoint(ctx, i)
	}
	if err != nil {
		return err
	}
	return a.Book.Revoke(i.Nonce, i.Expires)
}

// RevokeUntil voids a token that another endpoint of root has made, by its whole ID, until it expires.
func (a *Authority) RevokeUntil(id string, until time.Time) error {
	now := a.Verifier.Clock().Now()
	if b, err := hex.DecodeString(id); err != nil || len(b) != nonceBytes || until.After(now.Add(maxPodLife)) {
		return answer.Errorf(answer.BadRequest, "%.40q is not the ID of a token, or the time makes no sense", id)
	}
	return a.Book.Revoke(id, until)
}

// isHub reports whether an ID is that of a hub, or of the mesh, which stands for hubs.
func (a *Authority) isHub(ctx context.Context, id identity.ID) bool {
	if id == a.Verifier.Trust().Mesh() {
		return true
	}
	if _, known := a.knownHub(id); known {
		return true
	}
	_, err := a.Directory.Find(ctx, id)
	return answer.CodeOf(err) == answer.NotFound // no endpoint
}

// approved reports whether a person has approved a device, where the token asks for that. Until
// then the device asks again and again.
func (a *Authority) approved(inv identity.Invitation, id identity.ID, name string, now time.Time) error {
	if !inv.Approve {
		return nil
	}
	nod, err := a.Book.Ask(inv, id, name, now)
	switch {
	case err != nil:
		return err
	case nod == Approved:
		return nil
	case nod == Refused:
		return answer.Errorf(answer.Denied, "endpoint %s was not approved", name)
	}
	return answer.Errorf(answer.Unavailable, "%s of user %s waits for approval: at an endpoint of %s run: ztm ep %s approve %s (its ID is %s)",
		name, inv.User, RootUser, a.Book.Membership().Name, name, id)
}

// Approvals lists the devices that wait for a person.
func (a *Authority) Approvals() ([]api.Approval, error) {
	all, err := a.Book.Asking(a.Verifier.Clock().Now())
	out := []api.Approval{}
	for _, d := range all {
		out = append(out, api.Approval{ID: d.ID, Name: d.Name, User: d.User, Since: d.Since, Until: d.Expires, Answer: string(d.Nod)})
	}
	return out, err
}

// Approve answers a device that waits, by its name or ID.
func (a *Authority) Approve(name string, nod Nod) (api.Approval, error) {
	if _, err := a.Signer(); err != nil {
		return api.Approval{}, answer.Errorf(answer.Denied, "only an endpoint of user %s can approve: %v", RootUser, err)
	}
	all, err := a.Approvals()
	if err != nil {
		return api.Approval{}, err
	}
	var found []api.Approval
	for _, d := range all {
		if d.Name == name || string(d.ID) == name {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return api.Approval{}, answer.Errorf(answer.NotFound, "no device %q waits for approval here", name)
	case 1:
		found[0].Answer = string(nod)
		return found[0], a.Book.Answer(found[0].ID, nod)
	}
	return api.Approval{}, answer.Errorf(answer.Conflict, "several devices that wait are named %q: give the ID of one", name)
}
