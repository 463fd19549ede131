//go:build !ztm_router && !ztm_omit_cluster

package shared

import (
	"context"
	"errors"

	"ztm/hub/directory/cluster"
	"ztm/store"
	"ztm/store/etcd"
	"ztm/tunnel/identity"
)

// Check checks what was said of the store.
func (s *Store) Check() error {
	if !s.given() {
		return nil
	}
	_, err := s.load()
	return err
}

// errFiles is for a store whose files are not all given.
var errFiles = errors.New("--store takes --store-ca, --store-cert and --store-key as well: hubs and etcd show each other certificates")

func (s *Store) load() (etcd.Config, error) {
	if s.CA == "" || s.Cert == "" || s.Key == "" {
		return etcd.Config{}, errFiles
	}
	return etcd.Files{CA: s.CA, Cert: s.Cert, Key: s.Key, User: s.User}.Load(s.Endpoints)
}

// open opens the directory that hubs share. A store that does not answer is asked again later; one of
// another mesh ends the start.
func open(c Config) (Directory, error) {
	config, err := c.Store.load()
	if err != nil {
		return nil, err
	}
	client, err := etcd.New(config)
	if err != nil {
		return nil, err
	}
	d, err := cluster.Open(c.DB, cluster.Config{
		Client: client, Mesh: c.Mesh, Hub: c.Hub, Read: c.Verifier.Record, Trust: list{c},
		Limits: c.Limits, Now: c.Verifier.Clock().Now, Log: c.Log,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), agreeTime)
	defer cancel()
	if err := d.Begin(ctx); errors.Is(err, cluster.ErrForeign) {
		return nil, err
	}
	return d, nil
}

// leave is for a hub that has no store, and may have had one.
func leave(db *store.DB, mesh identity.ID) (was bool, err error) { return cluster.Leave(db, mesh) }

// list is the trust list of a hub, as the store sees it.
type list struct{ c Config }

// Document implements [cluster.Trust].
func (l list) Document() []byte { return l.c.Verifier.Trust().Document() }

// Take implements [cluster.Trust].
func (l list) Take(doc []byte) error { return l.c.Take(doc, identity.Subject{}) }

// Follows implements [cluster.Trust].
func (l list) Follows(old, next []byte) bool {
	trust, err := identity.ParseTrust([]byte(l.c.CA), old)
	if err != nil {
		return false
	}
	updated, err := trust.Update(next)
	return err == nil && updated != trust
}
