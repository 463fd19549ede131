package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"ztm/agent/api"
	"ztm/agent/console"
	"ztm/apps"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// maxFile is the largest permit or key that is read, in bytes.
const maxFile = identity.MaxPermit

// identity prints the public key that an invitation is for.
func (c commands) identity(ctx context.Context) error {
	path := api.IdentityPath
	if c.Prefixed() {
		var err error
		if path, err = c.At(ctx, "identity"); err != nil {
			return err
		}
	}
	pem, err := c.Fetch(ctx, path)
	if err != nil {
		return err
	}
	if c.Structured() {
		return c.Print(map[string]string{"publicKey": string(pem)}, nil)
	}
	_, err = c.Stdout().Write(pem)
	return err
}

func (c commands) join(ctx context.Context, mesh, name, permit string, wait joinWait) error {
	if err := identity.CheckName(mesh); err != nil {
		return &apps.UsageError{Err: fmt.Errorf("mesh: %w", err)}
	}
	if err := identity.CheckName(name); err != nil {
		return &apps.UsageError{Err: fmt.Errorf("option --as: %w", err)}
	}
	b, err := c.read(permit)
	if err != nil {
		return fmt.Errorf("permit: %w", err)
	}
	if !json.Valid(b) {
		return &apps.HintError{
			Err:  fmt.Errorf("permit: %s is not a permit: it is not JSON", permit),
			Hint: "a permit comes from: ztm run hub --permit FILE, or: ztm invite USER --permit FILE",
		}
	}
	m, err := c.joinWhen(ctx, mesh, api.Join{Name: name, Permit: b, Replace: wait.replace}, wait)
	if err != nil {
		return err
	}
	if m.Replaced != "" {
		c.Warn("this endpoint has taken the place of %s; if that device is still in use, it needs another name", m.Replaced)
	}
	c.Note("joined %s as %s, user %s", mesh, name, m.Agent.User)
	return nil
}

func (c commands) leave(ctx context.Context, mesh string) error {
	if err := c.Do(ctx, http.MethodDelete, api.MeshPath(mesh), nil, nil); err != nil {
		return err
	}
	c.Note("left %s", mesh)
	return nil
}

// invitation is what invite is asked for.
type invitation struct {
	user     string
	identity string        // file with a public key; empty makes a token
	permit   string        // file to write; empty and "-" print
	expires  time.Duration // of a token

	uses      int
	ephemeral bool
	approve   bool
	redeemer  string // name or ID of an endpoint, or "hub"

	valid time.Time // when the user's access ends; the zero time: it does as before
}

// limitUser sets the end of the access of a user who is invited for some time. It is before the
// permit is made: nobody gets in without it.
func (c commands) limitUser(ctx context.Context, m api.Mesh, i invitation) error {
	if i.valid.IsZero() {
		return nil
	}
	if err := c.Do(ctx, http.MethodPost, api.PolicyPath(m.Name, m.Agent.ID, "users", i.user), api.UserChange{Until: i.valid}, nil); err != nil {
		return err
	}
	c.Note("the access of user %s ends %s", i.user, unixtime.Text(i.valid))
	return nil
}

// inviteHub writes a permit for another hub of the mesh.
func (c commands) inviteHub(ctx context.Context, i invitation, names []string) error {
	for _, n := range names {
		if err := identity.CheckHostPort(n); err != nil {
			return &apps.UsageError{Err: fmt.Errorf("option --name: %w", err)}
		}
	}
	pem, err := c.publicKey(i.identity, "the hub writes its own with: ztm run hub --identity FILE")
	if err != nil {
		return err
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	var permit json.RawMessage
	in := api.InviteHub{PublicKey: pem, Names: names}
	ask := func() error { return c.Do(ctx, http.MethodPost, api.HubPermitPath(m.Name), in, &permit) }
	return c.keepPermit(i.permit, "a hub", &permit, ask)
}

// publicKey reads a public key from a file.
func (c commands) publicKey(path, hint string) (string, error) {
	pem, err := c.read(path)
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	if !strings.HasPrefix(strings.TrimSpace(string(pem)), "-----BEGIN PUBLIC KEY-----") {
		return "", &apps.HintError{Err: fmt.Errorf("identity: %s is not a public key", path), Hint: hint}
	}
	return string(pem), nil
}

func (c commands) invite(ctx context.Context, i invitation) error {
	if err := identity.CheckName(i.user); err != nil {
		return &apps.UsageError{Err: fmt.Errorf("user: %w", err)}
	}
	var in api.Invite
	if i.identity == "" {
		in.Expires = apps.Duration(i.expires.Truncate(time.Second))
		if i.expires < time.Second {
			return &apps.UsageError{Err: errors.New("option --expires: want at least a second, for example 24h")}
		}
		in.Uses, in.Ephemeral, in.Approve = i.uses, i.ephemeral, i.approve
		redeemer, err := c.redeemer(ctx, i.redeemer)
		if err != nil {
			return err
		}
		in.Redeemer = redeemer
	} else {
		pem, err := c.publicKey(i.identity, "the device that is to join prints its own with: ztm identity")
		if err != nil {
			return err
		}
		in.PublicKey = pem
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	if err := c.limitUser(ctx, m, i); err != nil {
		return err
	}
	var permit json.RawMessage
	ask := func() error { return c.Do(ctx, http.MethodPost, api.PermitPath(m.Name, i.user), in, &permit) }
	if err := c.keepPermit(i.permit, i.user, &permit, ask); err != nil {
		return err
	}
	if i.permit != "" && i.permit != "-" {
		c.noteRedeemer(ctx, permit)
	}
	return nil
}

// keepPermit writes the permit that ask asks for to a file, or prints it. Nothing is asked for that
// cannot be kept.
func (c commands) keepPermit(path, whom string, permit *json.RawMessage, ask func() error) error {
	if path == "" || path == "-" {
		if err := ask(); err != nil {
			return err
		}
		return c.printPermit(*permit)
	}
	if holdsCAKey(path) {
		return &apps.HintError{
			Err:  fmt.Errorf("%s is a root permit: it holds the key of a mesh, which would be lost", path),
			Hint: "choose another file",
		}
	}
	f, err := console.CreatePrivate(path)
	if err != nil {
		return err
	}
	defer f.Discard()
	if err := ask(); err != nil {
		return err
	}
	if err := f.Commit(append(*permit, '\n')); err != nil {
		return err
	}
	c.Note("permit for %s written to %s", whom, path)
	return nil
}

// holdsCAKey reports whether a file is a root permit.
func holdsCAKey(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false // CreatePrivate says what is wrong
	}
	defer f.Close()
	var permit struct {
		CAKey string `json:"caKey"`
	}
	return json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&permit) == nil && permit.CAKey != ""
}

// rotation is what rotate is asked for.
type rotation struct {
	permit string        // file to write
	grace  time.Duration // for certificates of the old CA
	again  bool          // only write the permit
}

func (c commands) rotate(ctx context.Context, r rotation) error {
	if r.grace != 0 && r.grace < time.Minute {
		return &apps.UsageError{Err: errors.New("option --grace: want at least a minute, or 0 to void all certificates at once")}
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	f, err := console.CreatePrivate(r.permit)
	if err != nil {
		return err
	}
	defer f.Discard()
	var permit json.RawMessage
	if r.again {
		err = c.Do(ctx, http.MethodGet, api.CAPath(m.Name), nil, &permit)
	} else {
		err = c.Do(ctx, http.MethodPost, api.CAPath(m.Name), api.Rotate{Grace: apps.Duration(r.grace)}, &permit)
	}
	if err != nil {
		return err
	}
	if err := f.Commit(append(permit, '\n')); err != nil {
		return &apps.HintError{Err: err, Hint: "the key is safe on this endpoint; to write the permit: ztm rotate root --again --permit FILE"}
	}
	c.Note("the root permit of %s is written to %s", m.Name, r.permit)
	if r.again {
		return nil
	}
	if r.grace == 0 {
		c.Note("all certificates made until now are void: start the hub with --permit %s, and invite everybody again", r.permit)
		return nil
	}
	c.Note("devices that connect until %s get new certificates by themselves", unixtime.Text(time.Now().Add(r.grace)))
	return nil
}

func (c commands) printPermit(permit json.RawMessage) error {
	_, err := c.Stdout().Write(append(permit, '\n'))
	return err
}

// setHubs replaces the addresses of the hubs.
func (c commands) setHubs(ctx context.Context, hubs []string) error {
	for _, h := range hubs {
		if err := identity.CheckHostPort(h); err != nil {
			return &apps.UsageError{Err: fmt.Errorf("hub: %w", err)}
		}
	}
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	if err := c.Do(ctx, http.MethodPut, api.HubsPath(m.Name), hubs, nil); err != nil {
		return err
	}
	c.Note("The hubs of mesh %s are at %s", m.Name, strings.Join(hubs, ", "))
	return nil
}

// forget lets the next use of a name decide whose it is.
func (c commands) forget(ctx context.Context, name string) error {
	m, err := c.Mesh(ctx)
	if err != nil {
		return err
	}
	if err := c.Do(ctx, http.MethodDelete, api.NamePath(m.Name, name), nil, nil); err != nil {
		return err
	}
	c.Note("the next user of the name %s keeps it", name)
	return nil
}

// read returns the content of a file, or of standard input for "-".
func (c commands) read(path string) ([]byte, error) {
	b, err := apps.ReadInput(c.Stdin(), path, maxFile)
	if err == nil && len(b) == 0 {
		err = fmt.Errorf("%s is empty", apps.InputName(path))
	}
	return b, err
}
