package agent

import (
	"errors"
	"time"

	"ztm/agent/authority"
	"ztm/agent/tokens"
	"ztm/store"
	"ztm/store/backup"
	"ztm/tunnel/identity"
)

// Backup is the agent's database, for package backup.
func Backup() backup.Kind {
	return backup.Kind{Name: "agent", Schema: schema(), Merge: mergeRestored}
}

// mergeRestored keeps what must not be lost when an older database takes the place of another: the
// evictions that are known there, and which tokens were used.
func mergeRestored(restored, old *store.DB, now time.Time) error {
	rows, err := loadMeshes(restored)
	if err != nil {
		return err
	}
	if old != nil {
		known, err := loadMeshes(old)
		if err != nil {
			return err
		}
		for name, row := range rows {
			for _, k := range known {
				row.Trust = newerTrust(row, k)
			}
			if err := saveMesh(restored, name, row); err != nil {
				return err
			}
		}
		if err := tokens.Keep(restored, old); err != nil {
			return err
		}
	}
	return tokens.MarkRestored(restored, now)
}

// newerTrust returns the trust list of two rows that is newer. A list of another mesh does not
// count. Where the two differ it is the one that was in force.
func newerTrust(row, known authority.Row) []byte {
	trust, err := identity.ParseTrust([]byte(row.CA), row.Trust)
	if err != nil {
		return row.Trust
	}
	next, err := trust.Update(known.Trust)
	if err == nil {
		return next.Document()
	}
	if errors.Is(err, identity.ErrFork) {
		if _, err := identity.ParseTrust([]byte(row.CA), known.Trust); err == nil {
			return known.Trust
		}
	}
	return row.Trust
}
