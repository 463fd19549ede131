package state

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"ztm/store"
	"ztm/store/private"
	"ztm/tunnel/answer"
	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// How another hub of a mesh begins. Its key never leaves its machine, and the CA key never comes to
// it:
//
//  1. It makes its key, and prints the public one. (Identity)
//  2. An endpoint of user root signs a certificate for it, in a permit.
//  3. It starts with the permit, which also says where another hub is. (joinAsHub)

// keyKey is where a hub keeps its key until it has a certificate.
const keyKey = "key"

// Identity returns the public key of this hub, in PEM. A hub that has none yet makes it.
func (s *State) Identity() (pem []byte, err error) {
	key, err := s.key()
	if err != nil {
		return nil, err
	}
	return identity.MarshalPublicKey(key.Public().(ed25519.PublicKey)), nil
}

// WriteIdentity writes the public key of the hub in a directory to a file, or to stdout where that is
// "-". It makes the key if there is none.
func WriteIdentity(stdout io.Writer, data, to string) error {
	if err := private.Dir(data); err != nil {
		return NeedsPlace(data, fmt.Errorf("data directory: %w", err))
	}
	st, err := Open(data, slog.New(slog.DiscardHandler))
	if err != nil {
		return NeedsPlace(data, err)
	}
	pem, err := st.Identity()
	if err = errors.Join(err, st.Close()); err != nil {
		return err
	}
	if to == "-" {
		_, err = stdout.Write(pem)
		return err
	}
	return os.WriteFile(to, pem, 0o644)
}

// key returns the hub's key, and makes it if there is none.
func (s *State) key() (key ed25519.PrivateKey, err error) {
	err = s.db.Update(func(tx *store.Tx) error {
		for _, row := range []string{selfKey, keyKey} {
			me, found, err := selfTable.Get(tx, row)
			if err != nil {
				return err
			}
			if found {
				key, err = identity.ParsePrivateKey([]byte(me.Key))
				return err
			}
		}
		if key, err = identity.NewKey(); err != nil {
			return err
		}
		return selfTable.Put(tx, keyKey, Self{Key: string(identity.MarshalPrivateKey(key))})
	})
	if err != nil {
		return nil, fmt.Errorf("hub.db: %w", err)
	}
	return key, nil
}

// joinAsHub is the first start with the permit of a hub.
func joinAsHub(st *State, p *identity.Permit, o Options) (me Self, err error) {
	key, err := st.key()
	if err != nil {
		return Self{}, err
	}
	now := identity.NewClock(o.Clock).Now()
	der, err := p.CheckHub(key.Public().(ed25519.PublicKey), now)
	if errors.Is(err, identity.ErrWrongID) {
		return Self{}, fmt.Errorf("%s: %w. Ask for a permit with the key that this prints: ztm run hub --identity -", o.Permit, err)
	}
	if err != nil {
		return Self{}, fmt.Errorf("%s: %w", o.Permit, err)
	}
	if o.KeepCA {
		return Self{}, fmt.Errorf("%s holds no CA key to keep: only the root permit does", o.Permit)
	}
	me = Self{
		CA: p.CA, Key: string(identity.MarshalPrivateKey(key)), Certificate: der, Seen: unixtime.Of(now),
		Names: p.Hub.Names, Peers: p.Bootstraps,
	}
	o.place(&me)
	if len(me.Names) == 0 {
		return Self{}, ErrNoNames
	}
	if len(p.Trust) > 0 {
		if err := st.SetTrust(p.Trust); err != nil {
			return Self{}, err
		}
	}
	o.Log.Info("joining the mesh of the permit, as a hub", "permit", o.Permit, "mesh", p.Mesh, "peers", me.Peers)
	return me, st.Change(func(s *Self) { *s = me })
}

// newPermit takes the certificate and the trust list of a hub's permit, if the hub has a mesh
// already and the permit is newer than what it has: its certificate expired while it was off, or the
// CA was replaced.
func newPermit(st *State, me *Self, trust *identity.Trust, o Options) (*identity.Trust, error) {
	p, err := readPermit(o.Permit)
	if err != nil || p.Hub == nil || p.CheckMesh(trust.Mesh()) != nil {
		return trust, nil // an existing file is left alone
	}
	if next, err := trust.Update(p.Trust); err == nil && next != trust {
		if err := st.SetTrust(next.Document()); err != nil {
			return trust, err
		}
		trust = next
	}
	key, err := identity.ParsePrivateKey([]byte(me.Key))
	if err != nil {
		return trust, fmt.Errorf("hub.db: %w", err)
	}
	der, err := p.CheckHub(key.Public().(ed25519.PublicKey), identity.NewClock(o.Clock).Now())
	if err != nil {
		return trust, fmt.Errorf("%s: %w", o.Permit, err)
	}
	v := identity.NewVerifier(trust, identity.NewClock(o.Clock))
	given, err := v.Inspect(der, identity.RoleHub)
	if err != nil {
		return trust, fmt.Errorf("%s: %w", o.Permit, err)
	}
	if had, err := v.Inspect(me.Certificate, identity.RoleHub); err != nil || given.NotBefore.After(had.NotBefore) {
		me.Certificate, me.Next, me.Last = der, nil, nil
	}
	return trust, nil
}

// readPermit reads a permit of any kind. Its error is fs.ErrNotExist if there is no file. A file of
// another user of this machine is refused: it would say which mesh this is.
func readPermit(path string) (*identity.Permit, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("permit %s: not a file", path) // opening a pipe would wait for its writer
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("permit: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("permit: %w", err)
	}
	if err := private.CheckOwner(info); err != nil && private.KeepsOwners(filepath.Dir(path)) {
		return nil, fmt.Errorf("permit %s %w", path, err)
	}
	b, err := answer.Limited(f, identity.MaxPermit)
	if err != nil {
		return nil, fmt.Errorf("permit %s: %w", path, err)
	}
	p, err := identity.ParsePermit(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}
