package state

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"ztm/tunnel/identity"
	"ztm/tunnel/unixtime"
)

// How a hub bootstraps a mesh. Another hub of a mesh has a permit of its own: permit.go. The first one:
//
//  1. The CA is made, or taken from a root permit that lies where the new one would go: the permit
//     of a start that was interrupted, or of a hub that was lost.
//  2. The hub's key is made, and its certificate signed.
//  3. The root permit, which holds the CA key, is on disk.
//  4. The database says that there is a mesh. It does not get the CA key, unless that is asked for.
//
// A crash between any two leaves a directory that the next start can finish.

// Options are those of a start.
type Options struct {
	Data        string       // directory of the database
	Names       []string     // host:port under which agents reach the hub; none: as they were
	Permit      string       // path of the root permit
	PermitGiven bool         // somebody named that path
	KeepCA      bool         // keep the CA key in the database
	Listen      string       // [ip]:port where the hub listens; "": as it was
	Peers       []string     // host:port of other hubs; none: as they were
	Zone        string       // of the hub; "": as it was
	Weight      int          // of the hub; 0: as it was
	Clock       time.Time    // the earliest time that the clock shows; for tests
	Log         *slog.Logger // not nil
}

// Bootstrap returns what the hub knows of itself, and makes it at the first start. permit is the
// file that was written, if any.
func Bootstrap(st *State, o Options) (me Self, permit string, err error) {
	me, known, err := st.Self()
	if err != nil {
		return Self{}, "", err
	}
	if !known {
		return firstStart(st, o)
	}
	trust, err := st.Trust(me)
	if err != nil {
		return Self{}, "", err
	}
	if o.PermitGiven {
		if trust, err = newerTrust(st, trust, o); err != nil {
			return Self{}, "", err
		}
	}
	next := me
	if o.PermitGiven {
		if trust, err = newPermit(st, &next, trust, o); err != nil {
			return Self{}, "", err
		}
	}
	o.place(&next)
	if o.KeepCA {
		if next.Signer, err = keptNewest(me.Signer, trust, o); err != nil {
			return Self{}, "", err
		}
	}
	if !o.KeepCA && me.Signer != nil {
		o.Log.Warn("the database still holds the CA key from an earlier start with --keep-ca; it is not used")
	}
	if err := renewExpired(&next, trust, o); err != nil {
		return Self{}, "", err
	}
	if err := st.Change(func(s *Self) { *s = next }); err != nil { // writes nothing if nothing has changed
		return Self{}, "", err
	}
	if o.PermitGiven {
		permit, err = reWritePermit(o, next)
	}
	return next, permit, err
}

// place sets what a hub says of itself, and what it is told of others, where a start says so.
func (o *Options) place(me *Self) {
	if len(o.Names) > 0 {
		me.Names = o.Names
	}
	if len(o.Peers) > 0 {
		me.Peers = o.Peers
	}
	me.Listen = cmp.Or(o.Listen, me.Listen)
	me.Zone, me.Weight = cmp.Or(o.Zone, me.Zone), cmp.Or(o.Weight, me.Weight)
}

// newerTrust takes the trust list of a root permit, if it is newer than the hub's: after a rotation
// of the CA without a grace period no agent can bring it.
func newerTrust(st *State, trust *identity.Trust, o Options) (*identity.Trust, error) {
	root, _, err := ReadRoot(o.Permit)
	if err != nil || root.CheckMesh(trust.Mesh()) != nil {
		return trust, nil // an existing file is left alone
	}
	next, err := trust.Update(root.Trust)
	if err != nil {
		return trust, nil
	}
	if next != trust {
		err = st.SetTrust(next.Document())
		o.Log.Info("the root permit brings a newer trust list", "permit", o.Permit, "version", next.Version())
	}
	return next, err
}

// keptNewest returns the CA for the hub to keep: what it kept, or after a rotation the one of the
// root permit.
func keptNewest(kept *KeptCA, trust *identity.Trust, o Options) (*KeptCA, error) {
	if kept != nil {
		ca, err := kept.CA()
		if err != nil {
			return nil, fmt.Errorf("hub.db: %w", err)
		}
		if ca.ID() == trust.Newest() {
			return kept, nil
		}
	}
	ca, err := newestCA(o.Permit, trust)
	switch {
	case err == nil:
		return keep(ca), nil
	case kept == nil:
		return nil, fmt.Errorf("to keep the CA key it has to come from the root permit: %w", err)
	}
	o.Log.Warn("the CA key that this hub keeps was replaced, and it does not sign until it starts with the new root permit", "err", err)
	return kept, nil
}

// renewExpired renews a certificate that expired while the hub was off, or whose CA was replaced.
// No agent connects to such a hub, so renewal takes the root permit.
func renewExpired(me *Self, trust *identity.Trust, o Options) error {
	now := identity.NewClock(me.Seen.Time(), o.Clock).Now()
	if me.Next != nil && unixtime.Of(now) >= me.Next.From {
		me.Certificate, me.Next, me.Last = me.Next.Certificate, nil, me.Certificate
	}
	own, err := identity.NewVerifier(trust, identity.NewClock()).Inspect(me.Certificate, identity.RoleHub)
	if err != nil {
		return fmt.Errorf("hub.db: the hub's certificate: %w", err)
	}
	why := trust.Reverify(own, now)
	if !errors.Is(why, identity.ErrExpired) {
		return nil
	}
	ca, err := newestCA(o.Permit, trust)
	if err != nil {
		return fmt.Errorf("the hub's %w, and to renew it takes the root permit, or a new permit of this hub: %w", why, err)
	}
	key, err := identity.ParsePrivateKey([]byte(me.Key))
	if err != nil {
		return fmt.Errorf("hub.db: %w", err)
	}
	der, err := ca.SignHub(key.Public().(ed25519.PublicKey), now)
	if err != nil {
		return err
	}
	// The clock may be years ahead, and no member is here yet to prove it wrong. The old
	// certificate is kept until the new one has begun.
	me.Certificate, me.Next, me.Last = der, nil, me.Certificate
	return nil
}

// newestCA reads the mesh's CA from a root permit.
func newestCA(path string, trust *identity.Trust) (*identity.CA, error) {
	root, ca, err := ReadRoot(path)
	if err != nil {
		return nil, err
	}
	if err := root.CheckMesh(trust.Mesh()); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if ca.ID() != trust.Newest() {
		return nil, fmt.Errorf("%s: the mesh has another CA by now", path)
	}
	return ca, nil
}

// rewritePermit handles --permit on a hub that has a mesh already. Only a hub that kept the CA key
// can write the permit again. An existing file is left alone.
func reWritePermit(o Options, me Self) (permit string, err error) {
	if _, err := os.Lstat(o.Permit); err == nil {
		return "", nil
	}
	if me.Signer == nil {
		o.Log.Warn("no root permit is written: the CA key is in the one that the first start wrote, not on this hub",
			"permit", o.Permit)
		return "", nil
	}
	ca, err := me.Signer.CA()
	if err != nil {
		return "", fmt.Errorf("hub.db: %w", err)
	}
	return o.Permit, WritePermit(o.Permit, ca, me.Names)
}

// firstStart is the first start.
func firstStart(st *State, o Options) (me Self, permit string, err error) {
	now := identity.NewClock().Now()
	if p, err := readPermit(o.Permit); err == nil && p.Hub != nil {
		me, err := joinAsHub(st, p, o)
		return me, "", err
	}
	root, ca, err := ReadRoot(o.Permit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if ca, err = identity.NewCA(now); err != nil {
			return Self{}, "", err
		}
	case err != nil:
		return Self{}, "", fmt.Errorf("%w: move it away, or name another file for the permit of the new mesh", err)
	default:
		o.Log.Info("joining the mesh of the root permit that was found, as a hub", "permit", o.Permit, "mesh", ca.Mesh())
		if len(o.Names) == 0 {
			o.Names = root.Bootstraps
		}
	}
	if len(o.Names) == 0 {
		return Self{}, "", ErrNoNames
	}
	me, err = newSelf(ca, o, now)
	if err != nil {
		return Self{}, "", err
	}
	if root != nil && o.PermitGiven { // a permit in the data directory is from an interrupted start
		if me.Another = !replaces(me, root); me.Another {
			o.Log.Warn(InsteadOfRoot)
		} else {
			o.Log.Warn("the permit has the CA key of the mesh: remove it from this machine", "permit", o.Permit)
		}
	}
	if root == nil {
		if err := WritePermit(o.Permit, ca, me.Names); err != nil {
			return Self{}, "", err
		}
		permit = o.Permit
	} else if len(root.Trust) > 0 {
		if err := st.SetTrust(root.Trust); err != nil {
			return Self{}, "", err
		}
	}
	return me, permit, st.Change(func(s *Self) { *s = me })
}

// replaces reports whether a hub is where all of a permit look for one: it is in the place of a hub
// that was lost.
func replaces(me Self, root *identity.Permit) bool {
	return !slices.ContainsFunc(root.Bootstraps, func(name string) bool { return !slices.Contains(me.Names, name) })
}

// InsteadOfRoot says how a second hub of a mesh is made.
const InsteadOfRoot = "this hub was made with the root permit, which brings the CA key to its machine: that is for a mesh whose hub was lost. " +
	"Where another hub runs, make this one with a permit of its own: ztm run hub --identity hub.pub, then on an endpoint of root " +
	"ztm invite --hub --identity hub.pub --permit hub.json, then ztm run hub --permit hub.json --names HOST:PORT"

// ErrNoNames is returned for a new mesh without names of its hub.
var ErrNoNames = errors.New("a new mesh needs the names (host:port) under which agents will reach its hub")

// newSelf makes a hub's key and certificate.
func newSelf(ca *identity.CA, o Options, now time.Time) (Self, error) {
	key, err := identity.NewKey()
	if err != nil {
		return Self{}, err
	}
	der, err := ca.SignHub(key.Public().(ed25519.PublicKey), now)
	if err != nil {
		return Self{}, err
	}
	me := Self{
		CA:          string(ca.CertificatePEM()),
		Key:         string(identity.MarshalPrivateKey(key)),
		Certificate: der,
		Seen:        unixtime.Of(now),
	}
	o.place(&me)
	if o.KeepCA {
		me.Signer = keep(ca)
	}
	return me, nil
}

// KeptCA is the mesh's CA with its key, for a hub that signs on its own.
type KeptCA struct {
	Certificate string `json:"certificate"` // PEM
	Key         string `json:"key"`         // PEM
}

func keep(ca *identity.CA) *KeptCA {
	return &KeptCA{Certificate: string(ca.CertificatePEM()), Key: string(ca.KeyPEM())}
}

// CA returns the CA.
func (k *KeptCA) CA() (*identity.CA, error) {
	return identity.ParseCA([]byte(k.Certificate), []byte(k.Key))
}

// ReadRoot reads a root permit. Its error is fs.ErrNotExist if there is no file.
func ReadRoot(path string) (*identity.Permit, *identity.CA, error) {
	p, err := readPermit(path)
	if err != nil {
		return nil, nil, err
	}
	if p.CAKey == "" {
		return nil, nil, fmt.Errorf("%s is not a root permit: it holds no CA key", path)
	}
	ca, err := identity.ParseCA([]byte(p.CA), []byte(p.CAKey))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, ca, nil
}

// WritePermit writes a root permit: whole or not at all, readable by its owner alone, and never
// over a file that is there.
func WritePermit(path string, ca *identity.CA, names []string) error {
	p := identity.Permit{
		Mesh: ca.Mesh(), CA: string(ca.CertificatePEM()), CAKey: string(ca.KeyPEM()), Bootstraps: names,
	}
	b, err := p.Marshal()
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".permit-*") // mode 0600
	if err != nil {
		return fmt.Errorf("root permit: %w", err)
	}
	defer os.Remove(f.Name()) // does nothing after the rename
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("root permit: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// checkFirst finds what would stop a first start, before anything is made.
func checkFirst(o Options) error {
	if _, err := os.Lstat(o.Permit); err == nil {
		return nil // firstStart says whether it is a root permit
	}
	if len(o.Names) == 0 && o.PermitGiven {
		return fmt.Errorf("%s is not there, and %w", o.Permit, ErrNoNames) // it may be a slip in the name of a hub's permit
	}
	if len(o.Names) == 0 {
		return ErrNoNames
	}
	if !o.PermitGiven {
		return nil // in the data directory
	}
	f, err := os.CreateTemp(filepath.Dir(o.Permit), ".permit-*")
	if err != nil {
		return fmt.Errorf("the root permit cannot be written: %w", err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}
