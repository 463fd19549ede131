package state

import (
	"time"

	"ztm/agent/tokens"
	"ztm/store"
	"ztm/store/backup"
)

// Backup is the agent's database, for package backup.
func Backup() backup.Kind {
	return backup.Kind{Name: "agent", Schema: schema(), Merge: mergeRestored}
}

// mergeRestored keeps what must not be lost when an older database takes the place of another: the
// evictions that are known there, the key of the mesh if it is newer, and which tokens were used.
func mergeRestored(restored, old *store.DB, now time.Time) error {
	rows, err := Meshes(restored)
	if err != nil {
		return err
	}
	if old != nil {
		known, err := Meshes(old)
		if err != nil {
			return err
		}
		for name, row := range rows {
			for _, k := range known {
				row = row.Over(k)
			}
			if err := SaveMesh(restored, name, row); err != nil {
				return err
			}
		}
		if err := tokens.Keep(restored, old); err != nil {
			return err
		}
	}
	return tokens.MarkRestored(restored, now)
}
