//go:build ztm_router || ztm_omit_cluster

package shared

import (
	"errors"

	"ztm/store"
	"ztm/tunnel/identity"
)

var errOmitted = errors.New("--store: hubs that share a store are not in this build: `ztm version` shows what is")

// Check refuses every store.
func (s *Store) Check() error {
	if s.given() {
		return errOmitted
	}
	return nil
}

func open(Config) (Directory, error) { return nil, errOmitted }

func leave(*store.DB, identity.ID) (was bool, err error) { return false, nil }
